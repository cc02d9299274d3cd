"""Calls at the end of a chunk of Python's frames cost no mapping each."""

# Goes down to each depth, calls a function a hundred times there, and tells the most page faults
# that these calls had. At some depth they do not fit into the chunk any more: their frame is larger
# than what each step takes.
CALLS = """
import resource
exec("def leaf(): " + "".join(f"v{i} = " for i in range(100)) + "0")
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def down(depth):
    if depth: return max(down(depth - 1), here())
    return here()
def here():
    before = faults()
    for _ in range(100): leaf()
    return faults() - before
down(300)
print(down(300))
"""


def test_one_chunk_of_frames_is_kept_for_the_next_call(ours):
    assert int(ours("-c", CALLS).out) < 50


def test_deep_calls_end_as_ever(run):
    """Frames of thousands of calls, of threads, a recursion that goes too far."""
    program = """
import sys, threading
def down(n): return n and 1 + down(n - 1)
def deep(): results.append([down(900) for _ in range(50)] == [900] * 50)
results = []
threads = [threading.Thread(target=deep) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print(results)
try: down(10**6)
except RecursionError as e: print(e)
print(down(900))
"""
    run.same("-c", program)

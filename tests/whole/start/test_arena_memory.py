"""Frames take their memory in pieces; a call at the end of one costs no system call."""

import shutil

import pytest

# In one of these depths the next call's frame is the first of a new piece.
CALLS = 500
PROGRAM = f"""
def leaf(): pass

def at(depth):
    if depth:
        return at(depth - 1)
    for _ in range({CALLS}):
        leaf()

for depth in range(400):
    at(depth)
"""


def memory_calls(launch, trace) -> int:
    wrap = ["strace", "-f", "-e", "trace=mmap,munmap", "-o", trace]
    result = launch("-c", PROGRAM, wrap=wrap)
    assert (result.code, result.err) == (0, "")
    return len(trace.read_text().splitlines())


@pytest.mark.every_python
def test_calls_at_the_end_of_a_piece_of_frames(ours):
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    if ours.lab.version < (3, 11):
        pytest.skip("frames lie in pieces from 3.11 on")
    stock = memory_calls(ours.stock, ours.base / "stock")
    mine = memory_calls(ours.again, ours.base / "mine")
    assert stock > CALLS, "none of the depths is the end of a piece"
    assert mine < CALLS


@pytest.mark.every_python
def test_frames_of_many_threads_and_deep_ones(run):
    """More pieces than are kept: of threads that begin, end and recurse at once."""
    program = """
import sys, threading
sys.setrecursionlimit(20000)
threading.stack_size(64 << 20)

def sink(n, *rest):
    return n if n == 0 else 1 + sink(n - 1, *rest)

def gen(n):
    if n:
        yield from gen(n - 1)
    yield n

def work(i, out):
    for k in range(5):
        out[i] += sink(300 + 37 * i, *range(4 * k)) + sum(gen(20))

out = [0] * 8
for turn in range(2):
    threads = [threading.Thread(target=work, args=(i, out)) for i in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
print(out, sink(9000))
"""
    run.same("-c", program)

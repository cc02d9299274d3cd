"""Memory that every start writes is asked for at once: launcher/engine/start/arena_memory.h."""

import os

import pytest

# KiB of anonymous memory without a name that are there, in mappings that may hold arenas.
RESIDENT = """
total = 0
for line in open("/proc/self/smaps"):
    words = line.split()
    if words[0] == "Size:":
        big = int(words[1]) >= 1024 and "rw-p" in first and len(first) == 5
    elif words[0] == "Anonymous:" and big:
        total += int(words[1])
    elif "-" in words[0]:
        first = words
print(total)
"""
LINUX = tuple(int(number) for number in os.uname().release.split(".")[:2])


@pytest.mark.every_python
@pytest.mark.skipif(LINUX < (5, 14), reason="Linux 5.14 can do that")
def test_arenas_are_there_before_they_are_written(ours):
    """A bounded part: another start takes no more than one that writes much."""
    stock = int(ours.stock("-I", "-S", "-c", RESIDENT).out)
    with_us = int(ours("-S", "-c", RESIDENT).out)
    assert 1024 <= with_us <= max(stock, 1024) + 512


@pytest.mark.parametrize("allocator", ["malloc", "debug", "pymalloc_debug"])
def test_another_allocator_is_no_obstacle(run, allocator):
    run.same(
        "-c", "print(len([bytes(300) for _ in range(20000)]))", env={"PYTHONMALLOC": allocator}
    )

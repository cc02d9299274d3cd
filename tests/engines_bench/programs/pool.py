"""concurrent.futures' processes, started by spawn."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import tell

if __name__ == "__main__":
    tell.for_workers()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        tell.submitted()
        print(*pool.map(tell.first_line, range(2)))

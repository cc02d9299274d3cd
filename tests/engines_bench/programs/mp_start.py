"""multiprocessing's processes, by the start method named."""

import multiprocessing
import sys

import tell


def work(results):
    results.put(tell.first_line())


if __name__ == "__main__":
    tell.for_workers()
    context = multiprocessing.get_context(sys.argv[1])
    results = context.Queue()
    tell.submitted()
    workers = [context.Process(target=work, args=(results,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    print(*(results.get() for _ in workers))
    for worker in workers:
        worker.join()
    print(*(worker.exitcode for worker in workers))

"""The standard library's multiprocessing and concurrent.futures."""

from engines_bench import Engine


def engine(name: str, title: str, *command: str, forked_from: int = 0) -> Engine:
    page = "multiprocessing"
    return Engine(name, title, page, command, set_by_program=True, forked_from=forked_from)


ENGINES = [
    engine("spawn", "`Process`, spawn", "{programs}/mp_start.py", "spawn"),
    engine(
        "forkserver", "`Process`, forkserver", "{programs}/mp_start.py", "forkserver", forked_from=1
    ),
    engine("pool", "`ProcessPoolExecutor`, spawn", "{programs}/pool.py"),
]

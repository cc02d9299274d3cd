"""pytest-xdist, whose workers execnet starts."""

import re

from engines_bench import Engine

OPTIONS = ("-q", "-p", "no:cacheprovider")


def engine(name: str, title: str, *command: str) -> Engine:
    return Engine(
        name,
        title,
        "pytest-xdist",
        (*command, "{programs}/xdist_suite"),
        ("pytest==9.2.0", "pytest-xdist==3.8.0"),
        mend=lambda text: re.sub(r"in [\d.]+s", "", text),
        set_by_program=True,
        also=("import pytest",),
    )


def started_by_stock(*words: str) -> tuple[str, ...]:
    """pytest itself under the environment's python, whatever `words` name for its workers."""
    return ("bash", "-c", 'exec "$0" "$@"', "{bin}/python", "-m", "pytest", *words)


ENGINES = [
    engine("xdist", "`pytest -n 2`", "-m", "pytest", *OPTIONS, "-n", "2"),
    engine(
        "xdist-tx",
        "`pytest --tx`",
        *started_by_stock(*OPTIONS, "--dist", "load", "--tx", "2*popen//python={python}"),
    ),
]

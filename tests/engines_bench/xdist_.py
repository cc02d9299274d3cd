"""pytest-xdist, whose workers execnet starts."""

import re

from engines_bench import Engine

OPTIONS = ("-q", "-p", "no:cacheprovider", "-n", "2")

ENGINES = [
    Engine(
        "xdist",
        "`pytest -n 2`",
        "pytest-xdist",
        ("-m", "pytest", *OPTIONS, "{programs}/xdist_suite"),
        ("pytest==9.2.0", "pytest-xdist==3.8.0"),
        mend=lambda text: re.sub(r"in [\d.]+s", "", text),
        set_by_program=True,
        also=("import pytest",),
    )
]

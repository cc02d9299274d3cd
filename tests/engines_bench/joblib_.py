"""joblib, with its own loky."""

from engines_bench import Engine

ENGINES = [
    Engine(
        "joblib",
        "`Parallel`, loky",
        "joblib",
        ("{programs}/loky_pool.py",),
        needs=("joblib",),
        set_by_program=True,
    )
]

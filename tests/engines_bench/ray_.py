"""Ray: tasks, actors and Tune, their Python the node's, or named by a runtime environment."""

import re

from engines_bench import Engine

# Prestarted workers would be there before anything is submitted.
FRESH = {"RAY_enable_worker_prestart": "0", "RAY_prestart_worker_first_driver": "0"}


def mend(text: str) -> str:
    """Folders of a session, and Tune's names, which have the time in them."""
    return re.sub(r"/tmp/ray-\S+|trial_[\d_-]+ *", "#", text)


def engine(
    name: str, title: str, kind: str, where: str = "node", package: str = "ray", **kwargs
) -> Engine:
    return Engine(
        name,
        title,
        "ray",
        ("{programs}/ray_work.py", kind, where),
        (f"{package}==2.60.0",),
        env={**FRESH, "RAY_USAGE_STATS_ENABLED": "0"},
        mend=mend,
        set_by_program=True,
        detached=True,
        spare="/ray/_private/workers/default_worker.py",
        **kwargs,
    )


ENGINES = [
    engine("ray-tasks", "tasks", "tasks"),
    engine("ray-env", "tasks, `py_executable`", "tasks", "{python}"),
    engine("ray-actors", "actors", "actors"),
    engine("ray-trials", "Tune's trials", "trials", package="ray[tune]"),
    engine("ray-later", "later actors of a node", "later", also=("import ray",)),
]

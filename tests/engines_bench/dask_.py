"""Dask's workers: those of LocalCluster, and those of `dask worker`."""

from engines_bench import Engine

REQUIREMENTS = ("dask==2026.8.0", "distributed==2026.8.0")

ENGINES = [
    Engine(
        "dask-cluster",
        "`LocalCluster`",
        "dask",
        ("{programs}/dask_cluster.py",),
        REQUIREMENTS,
        set_by_program=True,
        also=("import distributed",),
    ),
    Engine(
        "dask-worker",
        "`dask worker`",
        "dask",
        ("bash", "{programs}/dask_nodes.sh", "{python}"),
        REQUIREMENTS,
        also=("import distributed",),
    ),
]

"""Slurm's tasks, on a cluster of one node that the program starts and ends itself."""

from engines_bench import Engine


def engine(kind: str, title: str) -> Engine:
    return Engine(
        f"slurm-{kind}",
        title,
        "slurm",
        ("bash", "{programs}/slurm_cluster.sh", kind, "{python}", "{bin}/python"),
        tools=("slurmctld", "slurmd", "srun", "sbatch", "munged"),
        workers=4,
        detached=True,
    )


ENGINES = [engine("srun", "`srun -n4`"), engine("array", "`sbatch --array=0-3`")]

"""A task of slurm_cluster.sh: of a step, or of an array."""

import os

import tell

tell.first_line()
if "SLURM_ARRAY_TASK_ID" in os.environ:
    print(os.environ["SLURM_ARRAY_TASK_ID"], "of", os.environ["SLURM_ARRAY_TASK_COUNT"])
else:
    print(os.environ["SLURM_PROCID"], "of", os.environ["SLURM_NTASKS"])

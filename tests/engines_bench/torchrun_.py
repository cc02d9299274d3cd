"""torch's own launcher of ranks."""

from engines_bench import Engine

LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")

ENGINES = [
    Engine(
        "torchrun",
        "torchrun, gloo",
        "torchrun",
        (*LAUNCHER, "{programs}/rank.py"),
        needs=("torch",),
    )
]

"""`accelerate launch`, which starts ranks by torch's launcher within itself."""

from engines_bench import Engine

# --multi_gpu is what starts ranks without MPI; the rank itself chooses gloo.
OPTIONS = ("--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no")

ENGINES = [
    Engine(
        "accelerate",
        "`accelerate launch`, gloo",
        "accelerate",
        ("-m", "accelerate.commands.launch", *OPTIONS, "--dynamo_backend=no", "{programs}/rank.py"),
        requirements=("accelerate==1.15.0",),
        needs=("torch",),
    )
]

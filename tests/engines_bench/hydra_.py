"""Hydra's launchers: of joblib, and of submitit with its local executor."""

from engines_bench import Engine

QUIET = ("hydra/hydra_logging=disabled", "hydra/job_logging=disabled")
SWEEP = ("-m", "+index=2,3", "hydra.sweep.dir=../sweep", *QUIET)


def engine(name: str, title: str, *options: str, requirements: tuple[str, ...], also: str):
    return Engine(
        f"hydra-{name}",
        title,
        "hydra",
        ("{programs}/hydra_sweep.py", *SWEEP, *options),
        ("hydra-core==1.3.8", *requirements),
        env={"HYDRA_FULL_ERROR": "1"},
        set_by_program=True,
        also=("import hydra", f"import {also}"),
    )


ENGINES = [
    engine(
        "joblib",
        "Hydra, joblib",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        requirements=("hydra-joblib-launcher==1.2.0", "joblib==1.6.0"),
        also="joblib",
    ),
    engine(
        "submitit",
        "Hydra, submitit",
        "hydra/launcher=submitit_local",
        requirements=("hydra-submitit-launcher==1.2.0", "submitit==1.5.4"),
        also="submitit",
    ),
]

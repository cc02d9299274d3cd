"""Lightning, whose DataLoader has worker processes."""

from engines_bench import Engine


def engine(method: str, **kwargs) -> Engine:
    return Engine(
        f"lightning-{method}",
        f"Lightning, `DataLoader` by {method}",
        "lightning",
        ("{programs}/lightning_fit.py", method),
        ("pytorch-lightning==2.6.6",),
        ("torch",),
        also=("import pytorch_lightning",),
        **kwargs,
    )


ENGINES = [engine("fork", forked_from=1), engine("spawn", besides=1)]

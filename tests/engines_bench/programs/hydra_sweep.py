"""A sweep of two jobs by Hydra, whose launcher is named on the command line."""

import os
from pathlib import Path

import hydra
import tell
from hydra.core.hydra_config import HydraConfig


@hydra.main(version_base=None)
def main(config):
    tell.first_line()
    folder = Path(HydraConfig.get().runtime.output_dir)
    (folder / "result").write_text(f"{config.index} squared is {config.index**2}\n")


if __name__ == "__main__":
    tell.for_workers()
    tell.submitted()
    main()
    for result in sorted(Path(os.environ["ENGINES_TOLD"]).parent.glob("sweep/*/result")):
        print(result.read_text(), end="")
        result.unlink()

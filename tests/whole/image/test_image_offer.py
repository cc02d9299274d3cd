"""Each kernel's image is offered to each: scripts/test-kernels boots them with one disk."""

import os
import platform
import re
from pathlib import Path

import pytest
from imaged import Imaged, reason, restored
from test_image_adoption import ELSEWHERE
from test_image_vdso import OUT
from test_image_vdso import PROGRAM as CLOCKS

DISK = os.environ.get("PYLAUNCH_KERNELS")
PROGRAMS = {
    "asyncio": "import decimal; print(decimal.Decimal(1) / 7)",
    "numpy": "import numpy as np; a = np.arange(10000.).reshape(100, 100)\n"
    "print(float((a @ a.T).sum()), np.linalg.norm(a))",
}


def numbers(release: str) -> list[int]:
    return [int(x) for x in re.match(r"[\d.]+", release)[0].split(".") if x]


class Kernel:
    """A kernel's own folder on the disk that all of them have."""

    def __init__(self, lab, release: str, module: str):
        self.release, self.module = release, module
        self.image = Imaged(lab, Path(DISK) / release / module)

    def run(self, *options):
        program = PROGRAMS[self.module] + CLOCKS + "import platform; print(platform.release())"
        preload = ["import ctypes", f"import {self.module}"]
        env = {"HOME": str(self.image.folder)}
        got = self.image(*options, "-c", program, preload=preload, env=env)
        stock = self.image.stock("-c", program, env=env)
        assert got.out.endswith(f"{OUT}{platform.release()}\n"), got.err
        assert (got.out, got.code) == (stock.out, stock.code), got.err
        return got


@pytest.mark.skipif(not DISK, reason="wants kernels of its own: scripts/test-kernels")
@pytest.mark.parametrize("module", PROGRAMS)
def test_each_kernel_takes_the_images_of_older_ones(lab, module):
    here = platform.release()
    made = sorted(path.parent.name for path in Path(DISK).glob(f"*/{module}"))
    for release in made:
        kernel = Kernel(lab, release, module)
        if numbers(release) > numbers(here):
            got = kernel.run("--cache-mode", "readonly")
            assert not restored(got) and reason(got) == "kernel is older", got.err
            continue
        got = kernel.run()
        assert restored(got) and ELSEWHERE in got.err, got.err
        for _ in range(2):
            got = kernel.run()
            assert restored(got) and ELSEWHERE not in got.err, got.err
    if here not in made:
        kernel = Kernel(lab, here, module)
        assert not restored(kernel.run())
        got = kernel.run()
        assert restored(got) and ELSEWHERE not in got.err, got.err

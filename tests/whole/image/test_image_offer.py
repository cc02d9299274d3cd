"""No kernel takes another one's image: scripts/test-kernels boots two with one disk and boot id."""

import os
import platform
from pathlib import Path

import pytest
from imaged import Imaged, restored

DISK = os.environ.get("PYLAUNCH_KERNELS")
PROGRAM = "import platform; print(platform.release())"


@pytest.mark.skipif(not DISK, reason="wants a kernel of its own: scripts/test-kernels")
@pytest.mark.parametrize("module", ["decimal", "numpy"])
def test_image_of_another_kernel_is_not_restored(lab, module):
    image = Imaged(lab, Path(DISK) / module)
    others = set(image.images())

    def run():
        got = image("-c", PROGRAM, preload=[f"import {module}"], env={"HOME": str(image.folder)})
        assert (got.out, got.code) == (platform.release() + "\n", 0), got.err
        return got

    first = run()
    assert not restored(first), first.err
    if others:
        assert "image: none for this state: kernel changed" in first.err, first.err
    assert len(set(image.images()) - others) == 1
    again = run()
    assert restored(again), again.err

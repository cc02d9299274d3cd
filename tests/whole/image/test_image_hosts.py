"""A folder that several hosts have; what goes from it: tests/unit/image/holdings_test.cc."""

import os
import time

import pytest
from imaged import Imaged, restored

OTHER_BOOT = "0123abcd"


@pytest.fixture
def image(lab, tmp_path) -> Imaged:
    lab.need_pylaunch()
    return Imaged(lab, tmp_path / "image")


def test_a_half_written_image_of_a_host_that_died_is_cleaned(image):
    """Of one that lives, whose lock is not seen here, nothing is taken away."""
    folder = image.cache / "images"
    folder.mkdir(parents=True)
    name = "0123456789abcdef-0123456789abcdef.img"
    dead = folder / f"{name}.2-{OTHER_BOOT}.tmp"
    alive = folder / f"{name}.3-{OTHER_BOOT}.tmp"
    for path in (dead, alive):
        path.write_bytes(b"half")
    hours_ago = time.time() - 2 * 3600
    os.utime(dead, (hours_ago, hours_ago))
    image.make("-c", "pass")
    assert alive.exists() and not dead.exists()
    assert restored(image("-c", "pass"))

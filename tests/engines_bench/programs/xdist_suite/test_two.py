"""One for each worker."""

import pytest
import tell


@pytest.mark.parametrize("index", range(2))
def test_a_worker_has_its_own(index):
    assert tell.first_line(index)

"""Of a suite whose workers start warm: this file is loaded before the first of them is started."""

import os

import tell

if "PYTEST_XDIST_WORKER" not in os.environ:
    tell.for_workers()


def pytest_xdist_setupnodes():
    tell.submitted()

# Versions: multiprocess==0.70.19
"""multiprocess, which began as a copy of multiprocessing."""


def resume():
    renew_multiprocessing(module)  # noqa: F821 - given by resume.py

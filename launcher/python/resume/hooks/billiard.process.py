# Versions: billiard==4.3.2
"""billiard, celery's, which began as a copy of multiprocessing."""


def resume():
    renew_multiprocessing(module)  # noqa: F821 - given by resume.py

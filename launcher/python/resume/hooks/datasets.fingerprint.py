# Versions: datasets==5.2.0
"""The generator of what datasets calls results that it cannot hash."""


def resume():
    module.fingerprint_rng.seed()  # noqa: F821 - given by resume.py

# Versions: more-itertools==10.8.0
"""The generator of is_prime(), of which the module keeps a method."""


def resume():
    module._private_randrange.__self__.seed()  # noqa: F821 - given by resume.py

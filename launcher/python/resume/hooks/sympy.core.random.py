# Versions: sympy==1.13.3,1.14.0
"""sympy's generators, seeded by the system when they are made (sympy/core/random.py)."""


def resume():
    module.rng.seed()  # noqa: F821 - given by resume.py
    module._assumptions_rng.seed()  # noqa: F821

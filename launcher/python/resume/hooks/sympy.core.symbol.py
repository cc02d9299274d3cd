# Versions: sympy==1.13.3,1.14.0
"""What tells dummy symbols of different processes apart (sympy/core/symbol.py, `Dummy`)."""


def resume():
    dummy = module.Dummy  # noqa: F821 - given by resume.py
    dummy._prng.seed()
    dummy._base_dummy_index = dummy._prng.randint(10**6, 9 * 10**6)

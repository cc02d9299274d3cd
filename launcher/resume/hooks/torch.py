"""torch's default generator, which it seeds from the system.

c10::detail::getNonDeterministicRandom in c10/core/GeneratorImpl.cpp.
"""

_seeded_by_system = False


def prepare():
    global _seeded_by_system
    # The system's seeds have 53 random bits or more; what people write has fewer.
    _seeded_by_system = module.initial_seed() >= 2**32  # noqa: F821 - given by resume.py


def resume():
    if _seeded_by_system:
        module.default_generator.seed()  # noqa: F821

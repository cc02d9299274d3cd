# Versions: numpy==2.4.6
"""numpy's global generator, which numpy.random seeds from the system when it is imported."""

_seeded_by_system = False


def prepare():
    global _seeded_by_system
    # Explicit seeding leaves no seed sequence (_legacy_seeding in numpy/random/_mt19937.pyx).
    generator = module._rand._bit_generator  # noqa: F821 - given by resume.py
    _seeded_by_system = getattr(generator, "_seed_seq", None) is not None


def resume():
    if _seeded_by_system:
        module._rand.seed()  # noqa: F821

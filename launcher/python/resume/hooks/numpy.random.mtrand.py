# Versions: numpy==1.24.4,1.25.2,1.26.4,2.0.2,2.1.3,2.2.0,2.2.6,2.3.4,2.3.5,2.4.0,2.4.2,2.4.4,2.4.6
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

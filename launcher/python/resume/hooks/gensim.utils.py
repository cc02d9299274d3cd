# Versions: gensim==4.4.0
"""gensim's generator, which others take by the module's name; seeded by the system when made."""


def resume():
    # Anew in its place, with a new seed sequence (BitGenerator.__init__ in _bit_generator.pyx).
    module.default_prng.bit_generator.__init__()  # noqa: F821 - given by resume.py

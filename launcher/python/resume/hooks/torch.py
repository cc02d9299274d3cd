# Versions: torch==2.13.0+cpu,2.14.1
"""torch's default generator, which it seeds from the system; its operators at the end.

c10::detail::getNonDeterministicRandom in c10/core/GeneratorImpl.cpp; `_del_library` in
torch/library.py.
"""

import weakref

_seeded_by_system = False


def prepare():
    global _seeded_by_system
    # The system's seeds have 53 random bits or more; what people write has fewer.
    _seeded_by_system = module.initial_seed() >= 2**32  # noqa: F821 - given by resume.py
    # What preloading registered need not be unregistered, name by name, when the process ends.
    forget = getattr(module.library, "_del_library", None)  # noqa: F821
    for finalizer in weakref.finalize._registry.values() if forget else ():
        if finalizer.func is forget:
            finalizer.atexit = False


def resume():
    if _seeded_by_system:
        module.default_generator.seed()  # noqa: F821

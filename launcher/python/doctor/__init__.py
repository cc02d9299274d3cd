"""What `pylaunch --doctor` knows about a Python environment and its typical illnesses.

Runs inside the Python that is examined, with the standard library only; `packaging` is borrowed
from the environment or from its pip. Loaded by __main__.py under the name `pylaunch_doctor`, never
from sys.path. Reading order: __main__ (the way in, isolation), model (Finding, Surroundings),
distributions, elf, symbols, then one file a family of checks: environments, interpreter, variables,
leftovers, records, owners, requirements, shadowing, native (with system_packages), compilers,
cycles, backends; checkup runs them all, entries tries what --preload names (with state and
late_settings), failures explains one exception, report prints.

Each family returns findings and raises nothing for what a broken environment may contain.
"""

"""The way in: run by the front end for --doctor, and read by the engine when a preload entry has
failed.

REQUEST is the number of a descriptor that holds a JSON object: json, python, why, asked, entries.
What stands behind it in argv is the program, as Python would have got it.
"""

import sys


def _stdlib() -> list:
    import _frozen_importlib_external as external

    # `os` may be frozen, `encodings` is not: its folder is the standard library's.
    lib = external._path_split(external._path_split(sys.modules["encodings"].__file__)[0])[0]
    zipped = f"{external._path_split(lib)[0]}/python{sys.version_info[0]}{sys.version_info[1]}.zip"
    return [zipped, lib, f"{lib}/lib-dynload"]


class Isolated:
    """Only the standard library can be imported meanwhile, whatever lies in front of it.

    Modules that bear a name of the standard library but come from elsewhere are put aside.
    Afterwards sys.path and sys.modules are as before, so that what is imported here hides nothing
    from later imports.
    """

    def __enter__(self):
        self.path, self.modules = sys.path[:], dict(sys.modules)
        sys.path[:] = _stdlib()
        roots = tuple(f"{folder}/" for folder in sys.path)
        for name, module in self.modules.items():
            origin = getattr(module, "__file__", None)
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names and isinstance(origin, str):
                foreign = not origin.startswith(roots) or "/site-packages/" in origin
                if foreign and name != "__main__":
                    del sys.modules[name]
        return self

    def __exit__(self, *_):
        sys.path[:] = self.path
        sys.modules.clear()
        sys.modules.update(self.modules)


def load(folder: str):
    """The package of this folder. REQUIRES: Isolated."""
    import importlib.util

    name = "pylaunch_doctor"
    if name not in sys.modules:
        # Written nowhere: the folder may belong to someone else, and a stale .pyc helps nobody.
        sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
        try:
            spec = importlib.util.spec_from_file_location(
                name, f"{folder}/__init__.py", submodule_search_locations=[folder]
            )
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
            for part in ("checkup", "entries", "failures", "report"):
                importlib.import_module(f"{name}.{part}")
        finally:
            sys.dont_write_bytecode = kept
    return sys.modules[name]


def explain_failure(folder: str, module: str, exception: BaseException):
    """(cause, hint) for an entry that did not load, or None. Called by the engine."""
    with Isolated() as outside:
        return load(folder).failures.explain(module, exception, outside.path, outside.modules)


def main() -> int:
    folder = __file__.rpartition("/")[0]
    with Isolated() as outside:
        doctor = load(folder)
        import os

        # CPython has put the real path there, -I and -P apart.
        if outside.path and os.path.realpath(outside.path[0]) == os.path.realpath(folder):
            del outside.path[0]
        request = doctor.checkup.read_request(int(sys.argv[1]))
        surroundings = doctor.model.surroundings(request, sys.argv[2:], outside.path)
        if request.get("child"):
            tries = doctor.entries.Tries(request, surroundings)
        else:
            return doctor.checkup.run(request, surroundings, __file__)
    sys.path[:] = surroundings.program_path
    tries.run(lambda entry, error: _explain(folder, entry, error))
    return 0


def _explain(folder, entry, error):
    return explain_failure(folder, entry["module"], error)


if __name__ == "__main__":
    # Neither -i nor whatever the entries left behind shall keep us.
    code = main()
    import os

    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

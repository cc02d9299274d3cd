# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Modules from the archive are ordinary modules, found where and when CPython's own import system would find them."""

import json
import os
import re
import shutil
import time
import zipfile
from pathlib import Path

import pytest
from conftest import Tree


def no_addresses(text: str) -> str:
    return re.sub(r"0x[0-9a-f]{6,16}", "0x…", text)


# Prints what is known about each module named on the command line.
DESCRIBE = r"""
import importlib, json, re, sys
from importlib.machinery import SourceFileLoader, ExtensionFileLoader

def plain(value):
    return re.sub(r'0x[0-9a-f]{6,16}', '0x', repr(value))

def code_of(code):
    inner = [code_of(c) for c in code.co_consts if hasattr(c, 'co_consts')]
    return [code.co_filename, code.co_name, code.co_firstlineno, len(code.co_code), inner]

facts = {'path': sys.path}
for name in sys.argv[1:]:
    try:
        m = importlib.import_module(name)
    except Exception as e:
        facts[name] = [type(e).__name__, str(e), getattr(e, 'name', None), getattr(e, 'path', None)]
        continue
    spec, loader = m.__spec__, m.__loader__
    f = {
        'repr': plain(m), 'file': getattr(m, '__file__', None), 'cached': getattr(m, '__cached__', None),
        'package': m.__package__, 'doc': m.__doc__, 'dict': sorted(vars(m)), 'order': list(vars(m))[:9],
        'builtins': type(m.__builtins__).__name__ if hasattr(m, '__builtins__') else None,
        'spec': plain(spec), 'spec_dict': {k: plain(v) for k, v in vars(spec).items()}, 'parent': spec.parent,
        'spec_cached': spec.cached, 'has_location': spec.has_location,
        'locations': spec.submodule_search_locations and list(spec.submodule_search_locations),
        'loader': plain(type(loader)), 'loader_dict': plain(sorted(getattr(loader, '__dict__', {}).items())),
        'same_loader': spec.loader is loader, 'class': type(m).__name__,
        'kinds': [isinstance(loader, SourceFileLoader), isinstance(loader, ExtensionFileLoader)],
        'hashable': hash(loader) is not None, 'equal': loader == loader,
        'path': plain(getattr(m, '__path__', None)), 'path_type': type(getattr(m, '__path__', None)).__name__,
        'bound': plain(getattr(sys.modules.get(spec.parent), name.rpartition('.')[2], None)) if spec.parent else 0,
    }
    for call in ('get_filename', 'is_package', 'get_source', 'get_resource_reader'):
        try:
            f[call] = plain(getattr(loader, call)(name))
        except Exception as e:
            f[call] = type(e).__name__ + str(e)
    try:
        f['code'] = code_of(loader.get_code(name)) if loader.get_code(name) else None
    except Exception as e:
        f['code'] = type(e).__name__ + str(e)
    f['functions'] = {k: code_of(v.__code__) for k, v in vars(m).items() if hasattr(v, '__code__')}
    facts[name] = f
facts['modules'] = sorted(n for n in sys.modules if n.split('.')[0] in {x.split('.')[0] for x in sys.argv[1:]})
print(json.dumps(facts))
"""


@pytest.fixture
def site(tree) -> Tree:
    """Two folders for sys.path with every kind of thing that can be imported."""
    body = '"""Doc of {0}."""\n\nX = "{0}"\n\n\ndef f():\n    def g():\n        return X\n\n    return g()\n'
    files = {
        name: body.format(name)
        for name in (
            "one/plain.py",
            "one/pack/__init__.py",
            "one/pack/sub.py",
            "one/pack/deep/__init__.py",
            "one/pack/deep/leaf.py",
            "one/ns/first.py",
            "one/ns/inner/x.py",
            "two/ns/second.py",
            "two/ns/inner/y.py",
            "two/plain.py",  # Shadowed by one/plain.py.
            "one/both/__init__.py",  # A package wins over a module of the same name.
            "one/both.py",
            "one/hollow/readme.txt",  # A folder without __init__.py loses against a module further on.
            "two/hollow.py",
            "one/grün.py",
            "one/a-b.py",
            "one/Upper.py",
            "one/real/__init__.py",
            "one/real/part.py",
            "one/unsourced.py",
        )
    }
    files["one/empty.py"] = ""
    files["one/latin.py"] = "# coding: latin-1\nX = 'gr\xfcn'\n".encode("latin-1")
    files["one/lazy.py"] = "def __getattr__(name):\n    return name.upper()\n"
    files["one/replaces.py"] = (
        "import sys, types\nm = types.ModuleType(__name__)\nm.__spec__ = __spec__\nm.__loader__ = __loader__\n"
        "m.X = 1\nsys.modules[__name__] = m\n"
    )
    files["one/raises.py"] = "X = 1\nraise RuntimeError('no')\n"
    files["one/broken.py"] = "def f(:\n"
    files["one/rel.py"] = "from . import x\n"
    files["one/pack/rel.py"] = (
        "from . import sub\nfrom .deep.leaf import X\nfrom .. import beyond\n"
    )
    files["one/pack/data.txt"] = "data of pack\n"
    files["one/pack/res/blob.bin"] = b"\0\1\2"
    files["one/thing-1.5.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: thing\nVersion: 1.5\n"
    files["one/thing-1.5.dist-info/RECORD"] = "plain.py,,\nthing-1.5.dist-info/METADATA,,\n"
    files["one/thing-1.5.dist-info/top_level.txt"] = "plain\n"
    files["one/thing-1.5.dist-info/entry_points.txt"] = "[tools]\nrun = plain:f\n"
    tree.write(files)
    (tree / "one/linked").symlink_to("real")
    (tree / "one/linkmod.py").symlink_to("plain.py")
    (tree / "one/dangling.py").symlink_to("nowhere.py")
    (tree / "one/folder.py").mkdir()
    with zipfile.ZipFile(tree / "three.zip", "w") as archive:
        for name in ("zmod.py", "zpack/__init__.py", "zpack/sub.py", "ns/third.py"):
            archive.writestr(name, body.format(name))
        archive.writestr("zpack/data.txt", "zipped data\n")
        archive.mkdir("ns") if hasattr(archive, "mkdir") else archive.writestr("ns/", "")
    return tree.settle()


@pytest.fixture
def env(site):
    return {"PYTHONPATH": f"{site}/one:{site}/two:{site}/three.zip:{site}/absent"}


NAMES = ["plain", "pack", "pack.sub", "pack.deep", "pack.deep.leaf", "pack.rel", "ns", "ns.first", "ns.second", "ns.third", "ns.inner", "ns.inner.x", "ns.inner.y", "both", "hollow", "grün", "a-b", "Upper", "upper", "empty", "latin", "lazy", "replaces", "raises", "broken", "rel", "linked", "linked.part", "linkmod", "dangling", "folder", "zmod", "zpack", "zpack.sub", "absent", "absent.sub", "plain.sub", "pack.absent", "json", "json.decoder", "_queue", "math", "sys"]  # fmt: skip


# ---------------------------------------------------------------------------------------------- what modules look like


@pytest.mark.every_python
def test_modules_look_as_stock_makes_them(run, site, env):
    facts = run.same_json("-c", DESCRIBE, *NAMES, env=env, before=site.drop_pycs, tree=site)
    assert facts["plain"]["kinds"] == [True, False]
    assert facts["plain"]["file"] == f"{site}/one/plain.py"
    assert facts["plain"]["functions"]["f"][0] == f"{site}/one/plain.py"
    assert facts["both"]["locations"] == [f"{site}/one/both"]
    assert facts["ns"]["path_type"] in ("_NamespacePath", "NamespacePath")
    assert len(facts["ns"]["locations"]) == 3
    assert facts["hollow"]["file"] == f"{site}/two/hollow.py"
    assert facts["absent"][0] == "ModuleNotFoundError"
    assert facts["raises"][0] == "RuntimeError"
    assert facts["upper"][0] == "ModuleNotFoundError"


@pytest.mark.every_python
def test_warm_modules_come_from_the_archive(ours, site, env):
    """The tests above mean something only if the archive did answer."""
    names = ["plain", "pack.deep.leaf", "pack.sub", "both"]
    ours.prime(site, "-c", DESCRIBE, *names, env=env)
    hits, misses, stale = ours.again(
        "-c", DESCRIBE, *names, env=env, flags=["--explain"]
    ).archive_counts()
    assert (misses, stale) == (0, 0)
    few = ours.again("-c", "pass", env=env, flags=["--explain"]).archive_counts()[0]
    assert hits >= few + 6


@pytest.mark.parametrize(
    "spelling",
    ["{0}/one/", "{0}/./one", "{0}/two/../one", "{0}//one", "one", "./one", "one/", "", "{0}/link"],
)
def test_paths_are_spelled_as_stock_spells_them(run, site, spelling):
    (site / "link").symlink_to("one")
    site.settle()
    cwd = site / "one" if spelling == "" else site.root
    program = "import sys; sys.path.insert(0, sys.argv.pop(1))\n" + DESCRIBE
    args = ["-c", program, spelling.format(site), "plain", "pack", "pack.sub", "ns.first"]
    facts = run.same_json(*args, cwd=cwd, before=site.drop_pycs, tree=site)
    assert facts["plain"]["file"].endswith("plain.py")


def test_odd_entries_on_the_path(run, site):
    # 3.10 fails on an entry of bytes, itself.
    odd = f"b'{site}/one', " if run.lab.version > (3, 10) else ""
    program = (
        "import sys, pathlib\n"
        f"sys.path[:0] = [{odd}pathlib.Path('{site}/one'), None, 5, '/nonexistent', '{site}/one/plain.py',"
        f" '{site}/two']\n" + DESCRIBE.replace("'path': sys.path", "'path': 0")
    )
    facts = run.same_json("-c", program, "plain", "hollow", "pack")
    assert facts["plain"]["file"] == f"{site}/two/plain.py"


def test_relative_path_entries_follow_the_working_folder(run, site):
    program = (
        "import os, sys\n"
        "sys.path[0:0] = ['', 'one']\n"
        "import plain; print(plain.__file__, plain.f.__code__.co_filename)\n"
        "del sys.modules['plain']; os.chdir('two')\n"
        "import plain; print(plain.__file__, plain.f.__code__.co_filename)\n"
        "import hollow; print(hollow.__file__)\n"
        "os.chdir('/')\n"
        "try: import empty\n"
        "except ImportError as e: print(e)\n"
    )
    result = run.same("-c", program, cwd=site.root, before=site.drop_pycs, tree=site)
    assert result.out.splitlines()[1].startswith(f"{site}/two/plain.py")


def test_extension_modules(run, site):
    """Found before source files in the same folder, after them in a later one, and reported as stock does."""
    folder = run.stock("-c", "import _queue; print(getattr(_queue, '__file__', ''))").out.strip()
    if not folder:
        pytest.skip("_queue is built in")
    (site / "one/_queue.py").write_text("X = 'source'\n")
    shutil.copy(folder, site / "one")
    shutil.copy(folder, site / "two")
    site.settle()
    env = {"PYTHONPATH": f"{site}/one:{site}/two"}
    facts = run.same_json("-c", DESCRIBE, "_queue", "_bisect", "_ctypes", env=env, tree=site)
    assert facts["_queue"]["kinds"] == [False, True]
    assert facts["_queue"]["file"].startswith(f"{site}/one/")


def test_tools_see_ordinary_modules(run, site, env):
    program = r"""
import importlib, importlib.metadata, importlib.resources, importlib.util, inspect, json, linecache
import os, pickle, pkgutil, pydoc, re, runpy, sys, traceback, types, warnings
warnings.simplefilter('ignore')
import plain, pack.sub, pack.deep.leaf, ns.first, zpack.sub, linked.part

def plainly(x): return re.sub(r'0x[0-9a-f]{6,16}', '0x', repr(x))
def tried(f):
    try: return plainly(f())
    except BaseException as e: return type(e).__name__ + ': ' + plainly(str(e))
def boom():
    try: plain.f.__code__ and runpy.run_module('raises')
    except RuntimeError: return traceback.format_exc()
def imported():
    try: import raises
    except RuntimeError: return traceback.format_exc()
def broken():
    try: import broken
    except SyntaxError: return traceback.format_exc()
facts = {}
def fact(**kw):
    for k, v in kw.items(): facts[k] = tried(v)
modules = [plain, pack, pack.sub, pack.deep.leaf, ns, ns.first, zpack.sub, linked, linked.part]
for m in modules:
    fact(**{'source ' + m.__name__: lambda: inspect.getsource(m), 'file ' + m.__name__: lambda: inspect.getfile(m),
            'sourcefile ' + m.__name__: lambda: inspect.getsourcefile(m),
            'function ' + m.__name__: lambda: (inspect.getsource(m.f), inspect.getmodule(m.f)),
            'comments ' + m.__name__: lambda: inspect.getcomments(m)})
fact(
    lines=lambda: linecache.getlines(plain.__file__), line=lambda: linecache.getline(plain.__file__, 3),
    loader_lines=lambda: linecache.getlines(zpack.sub.__file__, vars(zpack.sub)),
    boom=boom, imported=imported, broken=broken,
    resource=lambda: importlib.resources.files('pack').joinpath('data.txt').read_text(),
    resource_deep=lambda: importlib.resources.files('pack').joinpath('res', 'blob.bin').read_bytes(),
    resource_ns=lambda: sorted(p.name for p in importlib.resources.files('ns').iterdir()),
    resource_zip=lambda: importlib.resources.files('zpack').joinpath('data.txt').read_text(),
    resource_path=lambda: importlib.resources.as_file(importlib.resources.files('pack') / 'data.txt').__enter__(),
    get_data=lambda: pkgutil.get_data('pack', 'data.txt'), get_data_zip=lambda: pkgutil.get_data('zpack', 'data.txt'),
    iter_modules=lambda: [(x.name, x.ispkg, type(x.module_finder).__name__) for x in pkgutil.iter_modules(sys.path[1:4])],
    iter_pack=lambda: list(pkgutil.iter_modules(pack.__path__, 'pack.')),
    walk=lambda: [x.name for x in pkgutil.walk_packages(sys.path[1:3], onerror=lambda n: None)],
    resolve=lambda: pkgutil.resolve_name('pack.deep.leaf:f'),
    importer=lambda: [type(pkgutil.get_importer(p)).__name__ for p in sys.path],
    extend=lambda: pkgutil.extend_path(ns.__path__._path, 'ns'),
    metadata=lambda: (importlib.metadata.version('thing'), importlib.metadata.files('thing')),
    entry=lambda: [e.load()() for e in importlib.metadata.entry_points(group='tools')],
    distributions=lambda: sorted({d.metadata['Name'] or '' for d in importlib.metadata.distributions()}),
    packages=lambda: importlib.metadata.packages_distributions().get('plain'),
    no_metadata=lambda: importlib.metadata.version('absent-thing'),
    pickled=lambda: pickle.loads(pickle.dumps(plain.f)) is plain.f,
    pydoc=lambda: pydoc.render_doc(plain, renderer=pydoc.plaintext), located=lambda: pydoc.locate('pack.deep.leaf.f'),
    run_module=lambda: sorted(runpy.run_module('plain')), run_name=lambda: runpy.run_module('pack.sub', run_name='r')['__name__'],
    run_alter=lambda: runpy.run_module('plain', alter_sys=True)['__spec__'],
    run_path=lambda: {k: v for k, v in runpy.run_path(plain.__file__).items() if k in ('X', '__file__', '__spec__', '__cached__')},
    run_missing=lambda: runpy.run_module('absent'),
    find_spec=lambda: [importlib.util.find_spec(n) for n in ('plain', 'pack', 'hollow', 'ns.second', 'zmod', 'absent', 'empty', 'sys')],
    find_spec_missing_parent=lambda: importlib.util.find_spec('absent.sub'),
    find_spec_not_loaded=lambda: ('empty' in sys.modules, importlib.util.find_spec('pack.deep') is pack.deep.__spec__),
    path_finder=lambda: importlib.machinery.PathFinder.find_spec('empty'),
    path_finder_path=lambda: importlib.machinery.PathFinder.find_spec('pack.sub', pack.__path__),
    cache_from=lambda: importlib.util.cache_from_source(plain.__file__), source_from=lambda: importlib.util.source_from_cache(plain.__spec__.cached),
    stats=lambda: sorted(plain.__loader__.path_stats(plain.__file__)), data=lambda: plain.__loader__.get_data(plain.__file__)[:9],
    to_code=lambda: plain.__loader__.source_to_code(b'x = 1', 'here').co_filename,
    main=lambda: [getattr(sys.modules['__main__'], n, None) for n in ('__file__', '__spec__', '__cached__')],
    repr=lambda: [plain, pack, ns, zpack, sys, json], importer_cache=lambda: type(sys.path_importer_cache[sys.path[1]]).__name__,
    from_finder=lambda: sys.path_importer_cache[sys.path[1]].find_spec('empty'),
)
def from_location():
    spec = importlib.util.spec_from_file_location('other', plain.__file__)
    m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m)
    return m, m.X, m.__spec__, m.f.__code__.co_filename, 'other' in sys.modules
def lazily():
    spec = importlib.util.find_spec('lazy'); spec.loader = importlib.util.LazyLoader(spec.loader)
    m = importlib.util.module_from_spec(spec); sys.modules['lazy'] = m; spec.loader.exec_module(m)
    return type(m).__name__, m.anything, type(m).__name__
def reloaded():
    before, ident = plain.f, id(plain); plain.extra = 1; m = importlib.reload(plain)
    return m is plain, plain.f is before, plain.extra, m.__spec__
def fresh():
    del sys.modules['pack.sub']; import pack.sub as s; return s is pack.sub, s
def cls():
    spec = importlib.util.find_spec('plain'); loader = type(spec.loader)('plain', plain.__file__)
    return loader.get_code('plain').co_filename, loader.get_filename(), loader.is_package('plain')
fact(from_location=from_location, lazily=lazily, reloaded=reloaded, fresh=fresh, cls=cls)
print(json.dumps(facts))
"""  # fmt: skip
    facts = run.same_json("-c", program, env=env, before=site.drop_pycs, tree=site)
    # Nothing of this may have failed for reasons of its own.
    fine = {"no_metadata", "run_missing", "find_spec_missing_parent"}
    odd = {
        k: v for k, v in facts.items() if re.match(r"\w*(Error|Exception): ", v) and k not in fine
    }
    assert set(odd) <= {
        x for x in odd if x.split()[-1] in ("ns", "pack", "linked", "resource_ns")
    }, odd
    assert "RuntimeError: no" in facts["imported"] and "importlib" not in facts["imported"]
    assert "one/raises.py" in facts["imported"] and "raise RuntimeError(" in facts["imported"]


def test_pickled_classes_and_functions_travel_between_processes(run, tree):
    tree.write({"shapes.py": "class Point:\n    def __init__(self, x):\n        self.x = x\n"})
    dump = (
        "import pickle, sys, shapes; open(sys.argv[1], 'wb').write(pickle.dumps(shapes.Point(3)))"
    )
    load = "import pickle, sys; p = pickle.load(open(sys.argv[1], 'rb')); print(type(p), p.x)"
    env = {"PYTHONPATH": str(tree)}
    file = run.base / "p.pickle"
    for writer, reader in ((run, run.stock), (run.stock, run)):
        assert writer("-c", dump, file, env=env).code == 0
        assert reader("-c", load, file, env=env).out == "<class 'shapes.Point'> 3\n"


# ---------------------------------------------------------------------------------------------- .pyc files


def test_pycs_are_written_as_stock_writes_them(run, site, env):
    """The same set of files with the same bytes and modes."""
    args = (
        "-c",
        DESCRIBE,
        "plain",
        "pack.deep.leaf",
        "ns.first",
        "latin",
        "empty",
        "both",
        "hollow",
    )
    site.drop_pycs()
    os.chmod(site / "one/plain.py", 0o640)
    run.stock(*args, env=env)
    expected = site.pycs()
    modes = {name: (site / name).stat().st_mode for name in expected}
    assert len(expected) == 9
    site.drop_pycs()
    if run.mode == "warm":
        pytest.skip("a warm archive need not write any")
    run.again(*args, env=env)
    assert {k: len(v) for k, v in site.pycs().items()} == {k: len(v) for k, v in expected.items()}
    assert site.pycs() == expected
    assert {name: (site / name).stat().st_mode for name in expected} == modes


def test_no_pycs_where_stock_writes_none(run, site, env):
    site.drop_pycs()
    run("-B", "-c", DESCRIBE, "plain", "pack.sub", env=env)
    run("-c", "import sys; sys.dont_write_bytecode = True; import plain", env=env)
    assert site.pycs() == {}
    program = (
        "import sys; sys.pycache_prefix = sys.argv[1]; import plain; print(plain.__spec__.cached)"
    )
    result = run.same("-c", program, run.base / "elsewhere", env=env)
    assert result.out.startswith(str(run.base / "elsewhere"))
    assert site.pycs() == {}


def test_unwritable_folder_of_pycs(run, site, env, ordinary_root):
    site.drop_pycs()
    for folder in [site / "one", site / "one/pack"]:
        folder.chmod(0o555)
    try:
        run.same(
            "-c",
            "import plain, pack.sub; print(plain.X, plain.__spec__.cached)",
            env=env,
            wrap=ordinary_root,
        )
    finally:
        for folder in [site / "one", site / "one/pack"]:
            folder.chmod(0o755)


@pytest.mark.parametrize("mode", ["checked-hash", "unchecked-hash", "sourceless", "default"])
def test_hash_based_and_sourceless_pycs(run, tree, mode):
    """An unchecked pyc wins over its source, a checked one does not; a lone .pyc is a module."""
    tree.write({"m.py": "X = 'first'\n\n\ndef f():\n    pass\n"})
    if mode == "sourceless":
        run.stock("-m", "compileall", "-q", "-b", str(tree))
        (tree / "m.py").unlink()
    else:
        invalidation = [] if mode == "default" else ["--invalidation-mode", mode]
        run.stock("-m", "compileall", "-q", *invalidation, str(tree))
        tree.write({"m.py": "X = 'second'\n\n\ndef f():\n    pass\n"}, age=50)
    tree.settle()
    saved = tree.pycs()

    def before():
        for name, data in saved.items():
            (tree / name).write_bytes(data)
        tree.settle()

    for checks in ("default", "always", "never"):
        args = ["--check-hash-based-pycs", checks, "-c", DESCRIBE, "m"]
        facts = run.same_json(*args, env={"PYTHONPATH": str(tree)}, before=before, tree=tree)
        assert facts["m"]["file"].endswith("m.pyc" if mode == "sourceless" else "m.py")
    result = run.same(
        "-c", "import m; print(m.X)", env={"PYTHONPATH": str(tree)}, before=before, tree=tree
    )
    expected = "first" if mode in ("unchecked-hash", "sourceless") else "second"
    assert result.out == expected + "\n"


HASHED = ["checked-hash", "unchecked-hash"]
CHECKS = ["default", "never", "default", "always", "never", "always"]


def put_hashed(run, tree, invalidation) -> dict:
    """A module `m` whose hash-based .pyc is of another source; the environment to import it in."""
    tree.write({"m.py": "X = 'first!'\n"})
    run.stock("-m", "compileall", "-q", "--invalidation-mode", invalidation, str(tree))
    tree.write({"m.py": "X = 'second'\n"})
    return {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.parametrize("invalidation", HASHED)
def test_a_hash_based_pyc_is_believed_when_stock_believes_it(run, tree, invalidation):
    """Whatever an archive has learnt where it was not, and the other way round."""
    env = put_hashed(run, tree, invalidation)
    for checks in CHECKS:
        args = ["--check-hash-based-pycs", checks, "-c", "import m; print(m.X)"]
        result = run.same(*args, env=env, tree=tree)
        believed = checks == "never" or (checks, invalidation) == ("default", "unchecked-hash")
        assert result.out == ("first!\n" if believed else "second\n")


@pytest.mark.parametrize("invalidation", HASHED)
def test_a_program_may_say_which_hash_based_pycs_are_believed(run, tree, invalidation):
    env = put_hashed(run, tree, invalidation)
    for checks in CHECKS:
        program = f"import _imp; _imp.check_hash_based_pycs = {checks!r}; import m; print(m.X)"
        run.same("-c", program, env=env, tree=tree)


@pytest.mark.parametrize("mode", ["auto", "sealed"])
@pytest.mark.parametrize("invalidation", HASHED)
def test_a_built_archive_leaves_a_believed_pyc_to_python(ours, tree, invalidation, mode):
    env = put_hashed(ours, tree, invalidation)
    assert ours.again(flags=["--build", str(tree)], env=env).code == 0
    for checks in CHECKS:
        args = ["--check-hash-based-pycs", checks, "-c", "import m; print(m.X)"]
        got = ours.again(*args, env=env, flags=["--cache-mode", mode])
        assert (got.out, got.err) == (ours.stock(*args, env=env).out, "")


@pytest.mark.parametrize("damage", ["empty", "magic", "short", "flags", "body"])
def test_damaged_pycs(run, tree, damage):
    if run.mode == "warm":
        pytest.skip("a warm archive does not look at them")
    tree.write({"m.py": "X = 'source'\n"})
    run.stock("-c", "import m", env={"PYTHONPATH": str(tree)})
    ((name, data),) = tree.pycs().items()
    damaged = {
        "empty": b"",
        "magic": b"\0\0\0\0" + data[4:],
        "short": data[:10],
        "flags": data[:4] + b"\xff\0\0\0" + data[8:],
        "body": data[:30],
    }[damage]
    tree.settle()
    before = lambda: (tree / name).write_bytes(damaged)  # noqa: E731
    run.same("-c", "import m; print(m.X)", env={"PYTHONPATH": str(tree)}, before=before)


# ---------------------------------------------------------------------------------------------- changes between runs


def rewrite(text, age=50.0):
    return lambda tree: tree.write({"one/m.py": text}, age)


def swap(tree, a, b):
    (tree / a).rename(tree / "aside")
    (tree / b).rename(tree / a)
    (tree / "aside").rename(tree / b)


def back_in_time(tree):
    (tree / "one/m.py").write_text("X = 'newr'\n")
    os.utime(tree / "one/m.py", (1_000_000_000, 1_000_000_000))


def same_mtime(tree):
    stat = (tree / "one/m.py").stat()
    (tree / "one/m.py").write_text("X = 'much longer than before'\n")
    os.utime(tree / "one/m.py", ns=(stat.st_atime_ns, stat.st_mtime_ns))


def same_folder_mtime(tree):
    """A new file in a folder whose mtime is then set back, as archivers do: stock looks afresh in each process."""
    stat = (tree / "zero").stat()
    tree_write = tree / "zero/m.py"
    tree_write.write_text("X = 'zero'\n")
    os.utime(tree_write, (1_500_000_000, 1_500_000_000))
    os.utime(tree / "zero", ns=(stat.st_atime_ns, stat.st_mtime_ns))


def to_package(tree):
    (tree / "one/m.py").unlink()
    tree.write({"one/m/__init__.py": "X = 'package'\n"}, 50)


def to_module(tree):
    shutil.rmtree(tree / "one/p")
    tree.write({"one/p.py": "X = 'module'\n"}, 50)


def relink(tree):
    (tree / "one/link").unlink()
    (tree / "one/link").symlink_to("../two/p")


def extension_beside(tree):
    tree.write({"one/m.abi3.so": b"no ELF file"}, 50)


CHANGES = {
    # name: (what changes, program, expected)
    "same_size": (rewrite("X = 'new'\n"), "import m; print(m.X)", "new"),
    "other_size": (rewrite("X = 'entirely new'\n"), "import m; print(m.X)", "entirely new"),
    "same_mtime": (same_mtime, "import m; print(m.X)", "much longer than before"),
    "older": (back_in_time, "import m; print(m.X)", "newr"),
    "touched": (rewrite("X = 'old'\n"), "import m; print(m.X)", "old"),
    "very_young": (rewrite("X = 'now'\n", 0.0), "import m; print(m.X)", "now"),
    "in_the_future": (rewrite("X = 'fut'\n", -1000.0), "import m; print(m.X)", "fut"),
    "broken": (rewrite("X = (\n"), "import m; print(m.X)", "SyntaxError"),
    "deleted": (lambda t: (t / "one/m.py").unlink(), "import m; print(m.X)", "No module named 'm'"),
    "deleted_submodule": (
        lambda t: (t / "one/p/s.py").unlink(), "import p.s", "No module named 'p.s'"),
    "uncovered": (lambda t: (t / "one/twice.py").unlink(), "import twice; print(twice.X)", "two"),
    "moved_along_the_path": (
        lambda t: (t / "one/m.py").rename(t / "two/m.py"), "import m; print(m.__file__)", "two/m.py"),
    "renamed_over": (lambda t: swap(t, "one/m.py", "one/n.py"), "import m; print(m.X)", "other"),
    "folders_swapped": (lambda t: swap(t, "one/p", "one/q"), "import p.s; print(p.s.X)", "qqqq"),
    # The same size and the same modification time, as reproducible builds and image layers leave them.
    "folders_with_equal_stamps_swapped": (
        lambda t: swap(t, "one/p", "one/q"), "import p.like; print(p.like.X)", "b"),
    "roots_swapped": (lambda t: swap(t, "one", "two"), "import twice; print(twice.X)", "two"),
    "module_to_package": (to_package, "import m; print(m.X)", "package"),
    "package_to_module": (to_module, "import p; print(p.X)", "module"),
    "package_beside_module": (
        lambda t: t.write({"one/m/__init__.py": "X = 'package'\n"}, 50), "import m; print(m.X)", "package"),
    "namespace_beside_module": (
        lambda t: t.write({"one/m/x.py": "X = 1\n"}, 50), "import m; print(m.X)", "old"),
    "folder_deleted": (
        lambda t: shutil.rmtree(t / "one/q"), "import q", "No module named 'q'"),
    "root_deleted": (lambda t: shutil.rmtree(t / "one"), "import twice; print(twice.X)", "two"),
    "init_removed": (
        lambda t: [(t / "one/q/__init__.py").unlink(), shutil.rmtree(t / "one/q/__pycache__", True)],
        "import q.s; print(q.__file__, q.s.X)", "None qqqq"),
    "init_added": (
        lambda t: t.write({"one/ns/__init__.py": "X = 'init'\n"}, 50), "import ns; print(ns.X)", "init"),
    "portion_added": (
        lambda t: t.write({"zero/ns/z.py": "X = 'z'\n"}, 50),
        "import ns.z, ns.a; print(ns.z.X, ns.a.X, len(list(ns.__path__)))", "z a 2"),
    "shadowed_from_the_front": (
        lambda t: t.write({"zero/m.py": "X = 'zero'\n"}, 50), "import m; print(m.X)", "zero"),
    "shadowed_package_from_the_front": (
        lambda t: t.write({"zero/p/__init__.py": "X = 'zero'\n"}, 50), "import p; print(p.X)", "zero"),
    "shadowed_standard_library": (
        lambda t: t.write({"zero/json.py": "X = 'mine'\n"}, 50), "import json; print(json.X)", "mine"),
    "shadowed_by_pyc": (
        lambda t: t.write({"zero/m.pyc": b"not a pyc"}, 50), "import m; print(m.X)", "bad magic number"),
    "shadowed_with_folder_mtime_kept": (same_folder_mtime, "import m; print(m.X)", "zero"),
    "absent_root_appears": (
        lambda t: t.write({"absent/m.py": "X = 'appeared'\n"}, 50), "import m; print(m.X)", "appeared"),
    "absent_module_appears": (
        lambda t: t.write({"two/fresh.py": "X = 'fresh'\n"}, 50),
        "try: import fresh\nexcept ImportError: print('none')\nelse: print(fresh.X)", "fresh"),
    "link_retargeted": (relink, "import link.s; print(link.s.X)", "two"),
    "linked_source_changed": (
        lambda t: t.write({"real.py": "X = 'changed'\n"}, 50), "import soft; print(soft.X)", "changed"),
    "broken_extension_beside": (extension_beside, "import m; print(m.X)", "ImportError"),
    "became_folder": (
        lambda t: [(t / "one/m.py").unlink(), (t / "one/m.py").mkdir()], "import m; print(m)", "No module named 'm'"),
    "young_young": (
        lambda t: [t.write({"one/m.py": "X = 'aaa'\n"}, 0), t.write({"one/m.py": "X = 'bbbb'\n"}, 0)],
        "import m; print(m.X)", "bbbb"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_change_between_runs_is_noticed(run, tree, name):
    change, program, expected = CHANGES[name]
    tree.write(
        {
            "zero/readme": "",
            "one/m.py": "X = 'old'\n",
            "one/n.py": "X = 'other'\n",
            "one/p/__init__.py": "X = 'p'\n",
            "one/p/s.py": "X = 's'\n",
            "one/q/__init__.py": "X = 'qqqq'\n",
            "one/q/s.py": "X = 'qqqq'\n",
            "one/q/like.py": "X = 'b'\n",
            "one/p/like.py": "X = 'a'\n",
            "one/twice.py": "X = 'one'\n",
            "two/twice.py": "X = 'two..'\n",
            "two/p/__init__.py": "X = 'two'\n",
            "two/p/s.py": "X = 'two'\n",
            "one/ns/a.py": "X = 'a'\n",
            "real.py": "X = 'real'\n",
        }
    )
    (tree / "one/link").symlink_to("p")
    (tree / "one/soft.py").symlink_to("../real.py")
    tree.settle()
    env = {"PYTHONPATH": ":".join(f"{tree}/{x}" for x in ("absent", "zero", "one", "two"))}
    if name == "became_folder":
        env["PYTHONPATH"] = f"{tree}/zero:{tree}/one"
    everything = (
        "import m, n, p.s, q.s, p.like, q.like, twice, ns.a, soft, link.s\n"
        "try: import fresh\nexcept ImportError: pass\n" + program
    )
    run.prime(tree, "-c", everything, env=env)
    change(tree)
    result = run.again("-c", program, env=env)
    stock = run.stock("-c", program, env=env)
    assert expected in result.out + result.err
    assert result == stock


@pytest.mark.parametrize("together", [True, False], ids=["with_pycs", "without_pycs"])
def test_moved_tree_reports_its_new_place(run, tree, together):
    """co_filename, tracebacks and __file__ follow a tree that was moved, even together with its .pyc files."""
    tree.write({"here/m.py": "def f():\n    return (lambda: 1 / 0)()\n"})
    program = (
        "import m, traceback\n"
        "print(m.__file__, m.__spec__.cached, m.f.__code__.co_filename, m.f.__code__.co_consts[1].co_filename)\n"
        "try: m.f()\nexcept ZeroDivisionError: traceback.print_exc()\n"
    )
    run.prime(tree, "-c", program, env={"PYTHONPATH": f"{tree}/here"})
    if not together:
        tree.drop_pycs()
    (tree / "here").rename(tree / "there")
    env = {"PYTHONPATH": f"{tree}/there"}
    result = run.again("-c", program, env=env)
    assert "here/m.py" not in (result.out + result.err).replace("/there/m.py", "")
    assert result == run.stock("-c", program, env=env)


def test_hard_linked_trees_report_their_own_places(run, tree):
    """uv links one file into many environments."""
    tree.write({"a/m.py": "def f(): pass\n"})
    (tree / "b").mkdir()
    os.link(tree / "a/m.py", tree / "b/m.py")
    tree.settle()
    program = "import m; print(m.f.__code__.co_filename)"
    for name in ("a", "b", "a"):
        env = {"PYTHONPATH": f"{tree}/{name}"}
        run.prime(tree, "-c", program, env=env)
        assert run.again("-c", program, env=env).out == f"{tree}/{name}/m.py\n"


def test_unreadable_source_is_refused_as_stock_does(run, tree, ordinary_root):
    tree.write({"lib/m.py": "X = 1\n", "lib/p/__init__.py": "", "lib/p/s.py": "X = 2\n"})
    env = {"PYTHONPATH": f"{tree}/lib"}
    program = "import m; print(m.X)"
    run.prime(tree, "-c", "import m, p.s", env=env)
    tree.drop_pycs()
    (tree / "lib/m.py").chmod(0)
    (tree / "lib/p").chmod(0)
    try:
        stock = run.stock("-c", program, env=env, wrap=ordinary_root)
        assert "PermissionError" in stock.err
        hidden = run.stock("-c", "import p.s", env=env, wrap=ordinary_root)
        # The archive may know an unreadable module's code, for who may read the archive has read the source before.
        if run.mode != "warm":
            assert run.again("-c", program, env=env, wrap=ordinary_root) == stock
        assert run.again("-c", "import p.s", env=env, wrap=ordinary_root) == hidden
    finally:
        (tree / "lib/p").chmod(0o755)


# ---------------------------------------------------------------------------------------------- changes while running


@pytest.mark.parametrize("invalidate", [True, False], ids=["invalidated", "not_invalidated"])
@pytest.mark.parametrize(
    "what", ["new_module", "shadow", "package", "submodule", "deleted", "new_root"]
)
def test_change_while_running_is_seen_as_stock_sees_it(run, tree, what, invalidate):
    """Files that the program itself makes. Folder mtimes are set by hand, for the clock is coarse."""
    tree.write(
        {
            "zero/readme": "",
            "one/m.py": "X = 'one'\n",
            "one/other.py": "X = 'other'\n",
            "one/p/__init__.py": "",
            "one/p/s.py": "X = 's'\n",
        }
    )
    program = f"""
import importlib, os, shutil, sys, time
root = sys.argv[1]
import other, p
clock = [2_000_000]
def put(name, text):
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as f: f.write(text)
    stamp(path)
def stamp(path):
    while len(path) > len(root):
        clock[0] += 10
        if os.path.exists(path): os.utime(path, (clock[0], clock[0]))
        path = os.path.dirname(path)
def show(name):
    try: print(name, importlib.import_module(name).X)
    except ImportError as e: print(name, type(e).__name__, e)
what = {what!r}
def change():
    if what == 'new_module': put('one/fresh.py', 'X = "fresh"')
    if what == 'shadow': put('zero/m.py', 'X = "zero"')
    if what == 'package': put('one/m/__init__.py', 'X = "package"')
    if what == 'submodule': put('one/p/fresh.py', 'X = "fresh"')
    if what == 'deleted': os.unlink(root + '/one/m.py'); stamp(root + '/one')
    if what == 'new_root': put('absent/m.py', 'X = "absent"')
show('fresh'); show('p.fresh')
change()
if {invalidate}: importlib.invalidate_caches()
show('m'); show('fresh'); show('p.fresh'); show('p.s')
if what == 'shadow':
    put('zero/m.py', 'X = "rewritten"'); m = importlib.reload(sys.modules['m']); print(m.X, m.__file__)
"""

    def before():
        tree.clear().write(
            {
                "zero/readme": "",
                "one/m.py": "X = 'one'\n",
                "one/other.py": "X = 'other'\n",
                "one/p/__init__.py": "",
                "one/p/s.py": "X = 's'\n",
            }
        )

    env = {"PYTHONPATH": ":".join(f"{tree}/{x}" for x in ("absent", "zero", "one"))}
    before()
    expected = run.stock("-B", "-c", program, tree, env=env)
    if (
        run.mode == "warm"
    ):  # Every start must find the tree as it was: see it first, with what later runs ask for.
        before()
        run.warm("-B", "-c", "import other, p, p.s, m", env=env)
        result = run.again("-B", "-c", program, tree, env=env)
    else:
        before()
        result = run.again("-B", "-c", program, tree, env=env)
    assert result == expected
    if invalidate or what == "shadow":
        wanted = {"new_module": "fresh fresh", "shadow": "m zero", "package": "m package", "submodule": "p.fresh fresh",
                  "deleted": "m ModuleNotFoundError", "new_root": "m absent"}  # fmt: skip
        assert wanted[what] in result.out


def test_reload_after_editing(run, tree):
    tree.write({"m.py": "X = 1\n"})
    program = (
        "import importlib, os, sys, m; print(m.X)\n"
        "for i, text in enumerate(['X = 22\\n', 'X = 33\\n', 'X = 444\\n']):\n"
        "    open(m.__file__, 'w').write(text); os.utime(m.__file__, (1e9 + i * 10, 1e9 + i * 10))\n"
        "    importlib.reload(m); print(m.X, m.__spec__.cached is getattr(m, '__cached__', m.__spec__.cached))\n"
    )
    before = lambda: tree.write({"m.py": "X = 1\n"})  # noqa: E731
    for _ in range(2):
        before()
        result = run.again("-c", program, env={"PYTHONPATH": str(tree)})
        assert result.out == "1\n22 True\n33 True\n444 True\n", result.err


def test_module_written_moments_ago_is_imported_fresh(run, tree):
    """Code generators write, import, write again, import again; both within one tick of the file system's clock."""
    program = (
        "import importlib, subprocess, sys\n"
        "for i in range(6):\n"
        "    name = 'made%d' % i\n"
        "    open(sys.path[1] + '/' + name + '.py', 'w').write('X = %d' % i)\n"
        "    importlib.invalidate_caches()\n"
        "    print(importlib.import_module(name).X)\n"
    )
    before = lambda: tree.clear().settle()  # noqa: E731
    assert (
        run.same("-c", program, env={"PYTHONPATH": str(tree)}, before=before).out
        == "0\n1\n2\n3\n4\n5\n"
    )


# ---------------------------------------------------------------------------------------------- programs that meddle

MEDDLING = {
    "source_to_code": """
from importlib.machinery import SourceFileLoader
old = SourceFileLoader.source_to_code
SourceFileLoader.source_to_code = lambda self, data, path, **k: old(self, data.replace(b'plain', b'PATCHED'), path)
import sys; sys.dont_write_bytecode = True
import plain; print(plain.X)
""",
    "source_to_code_module_level": """
import importlib._bootstrap_external as e
old = e.SourceLoader.source_to_code
def patched(self, data, path, *, _optimization=-1):
    print('compile', path.rpartition('/')[2]); return old(self, data, path)
e.SourceLoader.source_to_code = patched
import plain
""",
    "get_code": """
from importlib.machinery import SourceFileLoader
SourceFileLoader.get_code = lambda self, name: compile('X = "from get_code"', self.path, 'exec')
import plain; print(plain.X)
""",
    "get_data": """
from importlib.machinery import SourceFileLoader
import importlib._bootstrap_external as e
old = e.FileLoader.get_data
def get_data(self, path):
    print('read', path.rpartition('/')[2].replace('.' + __import__('sys').implementation.cache_tag, ''))
    return old(self, path)
e.FileLoader.get_data = get_data
import plain; print(plain.X)
""",
    "exec_module": """
from importlib.machinery import SourceFileLoader
def exec_module(self, module): module.X = 'from exec_module'
SourceFileLoader.exec_module = exec_module
import plain; print(plain.X)
""",
    "create_module": """
import types
from importlib.machinery import SourceFileLoader
class Mine(types.ModuleType): pass
SourceFileLoader.create_module = lambda self, spec: Mine(spec.name)
import plain; print(type(plain).__name__, plain.X)
""",
    "file_finder": """
from importlib.machinery import FileFinder
old = FileFinder.find_spec
def find_spec(self, name, target=None):
    if name in ('plain', 'sub'): print('asked', self.path.rpartition('/')[2], name)
    return old(self, name, target)
FileFinder.find_spec = find_spec
import plain, pack.sub
""",
    "path_finder": """
from importlib.machinery import PathFinder
old = PathFinder.find_spec
@classmethod
def find_spec(cls, name, path=None, target=None):
    print('asked', name, path and len(path)); return old(name, path, target)
PathFinder.find_spec = find_spec
import plain, pack.sub
""",
    "path_hook": """
import sys
from importlib.machinery import FileFinder, SourceFileLoader
class Loader(SourceFileLoader):
    def source_to_code(self, data, path, **k): return super().source_to_code(data.upper(), path)
sys.path_hooks.insert(0, FileFinder.path_hook((Loader, ['.txt'])))
sys.path_importer_cache.clear()
try: import plain
except ImportError as e: print(e)
import pack
""",
    "path_hook_in_use": """
import sys
from importlib.machinery import FileFinder, SourceFileLoader
class Loader(SourceFileLoader): pass
sys.path_hooks.insert(0, FileFinder.path_hook((Loader, ['.py'])))
sys.path_importer_cache.clear()
import plain; print(type(plain.__loader__))
""",
    "importer_cache": """
import sys, importlib.machinery as m
class Finder:
    def find_spec(self, name, target=None):
        print('asked', name); return None
    def invalidate_caches(self): print('invalidated')
import plain
sys.path_importer_cache[sys.path[1]] = Finder()
try: import empty
except ImportError as e: print(e)
import hollow, importlib; importlib.invalidate_caches(); print(hollow.X)
""",
    "importer_cache_none": """
import sys
sys.path_importer_cache[sys.path[1]] = None
import plain; print(plain.X)
""",
    "finder_in_front": """
import sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        print('asked', name, path and len(path))
sys.meta_path.insert(0, Finder)
import plain, pack.sub
""",
    "finder_in_front_answers": """
import sys, importlib.util, importlib.abc
class Loader(importlib.abc.Loader):
    def create_module(self, spec): return None
    def exec_module(self, module): module.X = 'made up'
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == 'plain': return importlib.util.spec_from_loader(name, Loader())
sys.meta_path.insert(0, Finder)
import plain, pack; print(plain.X, pack.X)
""",
    "finder_behind": """
import sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None): print('asked', name, path and len(path))
sys.meta_path.append(Finder)
import plain, pack.sub
for name in ('absent', 'pack.absent'):
    try: __import__(name)
    except ImportError as e: print(e)
""",
    "finder_before_path_finder": """
import sys
from importlib.machinery import PathFinder
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None): print('asked', name)
sys.meta_path.insert(sys.meta_path.index(PathFinder), Finder)
try: import absent
except ImportError: pass
""",
    "no_finders": """
import sys, warnings
warnings.simplefilter('always')
sys.meta_path.clear()
import plain
""",
    "meta_path_none": """
import sys
sys.meta_path = None
import plain
""",
    "own_meta_path": """
import sys
from importlib.machinery import PathFinder, BuiltinImporter
sys.meta_path[:] = [BuiltinImporter, PathFinder]
import plain, pack.sub, ns.second, zmod; print(plain.X, pack.sub.X, ns.second.X, zmod.X)
""",
    "without_path_finder": """
import sys
from importlib.machinery import PathFinder
sys.meta_path = [x for x in sys.meta_path if 'Frozen' in repr(x) or 'Builtin' in repr(x)]
import plain
""",
    "modules_none": """
import sys
sys.modules['plain'] = None
import plain
""",
    "modules_replaced": """
import sys, types
sys.modules['plain'] = types.SimpleNamespace(X='fake')
import plain; print(plain.X)
""",
    "import_override": """
import builtins
old = builtins.__import__
def mine(name, *a, **k):
    if name != '_io': print('import', name, a[2:])  # What reading a .pyc imports.
    return old(name, *a, **k)
builtins.__import__ = mine
from pack import sub
import pack.deep.leaf as leaf; print(leaf.X)
""",
    "path_assigned": """
import sys
sys.path = [p for p in sys.path if not p.endswith('/one')]
import plain; print(plain.X)
""",
    "package_path_changed": """
import pack, sys
pack.__path__.append(sys.path[2])
import pack.hollow; print(pack.hollow.X, pack.hollow.__spec__.name)
pack.__path__ = []
try: import pack.sub
except ImportError as e: print(e)
""",
    "namespace_path_grows": """
import sys, ns
print(len(list(ns.__path__)))
sys.path = sys.path[:2]
print(len(list(ns.__path__)))
try: import ns.second
except ImportError as e: print(e)
""",
    "path_hooks_empty": """
import sys
sys.path_hooks.clear(); sys.path_importer_cache.clear()
try: import plain
except ImportError as e: print(e)
""",
    "audit": """
import sys
seen = []
sys.addaudithook(lambda e, a: seen.append(a[0]) if e == 'import' else None)
import plain, pack.sub
print(seen)
""",
    "threads": """
import threading, importlib
names = ['plain', 'pack.sub', 'pack.deep.leaf', 'ns.first', 'ns.second', 'zmod', 'both', 'hollow'] * 3
out = []
ts = [threading.Thread(target=lambda n: out.append(importlib.import_module(n).X), args=(n,)) for n in names]
[t.start() for t in ts]; [t.join() for t in ts]; print(sorted(out))
""",
    "fork": """
import os, plain
pid = os.fork()
if not pid:
    import pack.sub, ns.second; print(pack.sub.X, ns.second.X, flush=True); os._exit(0)
print(os.waitpid(pid, 0)[1]); import pack.deep; print(pack.deep.X)
""",
    "import_in_atexit": """
import atexit
@atexit.register
def late():
    import plain; print(plain.X)
""",
    "import_in_del": """
class A:
    def __del__(self):
        try:
            import plain; print(plain.X)
        except ImportError as e: print(type(e).__name__)
a = A()
""",
    "subinterpreter": """
try: import _xxsubinterpreters as s
except ImportError:
    try: import _interpreters as s
    except ImportError: s = None
if s:
    i = s.create()
    print(s.run_string(i, 'import plain, pack.sub, json; print(plain.X, pack.sub.X, plain.__loader__.__class__, flush=True)'))
    s.destroy(i)
""",
    "finder_protocol": """
import sys, warnings
warnings.simplefilter('error')
for f in list(sys.meta_path):
    assert callable(f.find_spec); f.find_spec('absent_thing', None); f.find_spec('absent_thing', None, None)
    f.find_spec('absent_thing', path=[], target=None)
    getattr(f, 'invalidate_caches', lambda: 0)(); repr(f); hash(f)
print('fine')
""",
}  # fmt: skip


@pytest.mark.parametrize("name", MEDDLING)
def test_program_may_meddle_with_the_import_system(run, site, env, name):
    site.write({f"meddle_{name}.py": MEDDLING[name]})
    run.prime(
        site, "-c", "import plain, pack.sub, pack.deep.leaf, empty, hollow, ns.first", env=env
    )
    # The .pyc files are there in every mode, since some of these programs see whether they are read.
    result = run.same(str(site / f"meddle_{name}.py"), env=env, mend=no_addresses, tree=site)
    assert result.code == 0 or name in (
        "no_finders",
        "meta_path_none",
        "without_path_finder",
        "modules_none",
    )


# ---------------------------------------------------------------------------------------------- processes

POOL = """
import multiprocessing, os, sys
import helper

def work(n):
    return helper.double(n), __name__ in ('__main__', '__mp_main__'), helper.__file__ == sys.argv[1]

if __name__ == '__main__':
    method = sys.argv[2]
    if method == 'executor':
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2) as pool:
            print(list(pool.map(work, range(4))))
    else:
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            print(pool.map(work, range(4)))
        p = context.Process(target=sys.exit, args=(5,)); p.start(); p.join(); print(p.exitcode)
        q = context.Queue(); p = context.Process(target=q.put, args=('sent',)); p.start(); print(q.get()); p.join()
        p = context.Process(target=helper.fail); p.start(); p.join(); print(p.exitcode)
    print(os.path.samefile(multiprocessing.spawn.get_executable(), sys.executable))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver", "executor"])
def test_multiprocessing(run, tree, method):
    tree.write(
        {
            "pool.py": POOL,
            "helper.py": "def double(n):\n    return 2 * n\n\n\ndef fail():\n    raise KeyError(1)\n",
        }
    )
    mend = lambda text: re.sub(r"Process (\w+)-\d+(:\d+)?", "Process", no_addresses(text))  # noqa: E731
    result = run.same(tree / "pool.py", tree / "helper.py", method, mend=mend)
    assert result.out.startswith("[(0, True, True), (2, True, True)")


def test_children_of_the_executable(run, tree):
    tree.write({"m.py": "X = 'child'\n"})
    program = (
        "import subprocess, sys, os\n"
        "run = lambda *a, **k: print(subprocess.run([sys.executable, *a], capture_output=True, text=True, **k).stdout)\n"
        "run('-c', 'import m, sys; print(m.X, sys.prefix)')\n"
        "run('-c', 'import sys; print(sys.prefix, sys.path)', env={})\n"
        "run('-S', '-c', 'import sys; print(sys.flags.no_site)')\n"
        "print(os.system(sys.executable + ' -c \"exit(3)\"'))\n"
    )
    assert "child" in run.same("-c", program, env={"PYTHONPATH": str(tree)}).out


# ---------------------------------------------------------------------------------------------- environments


@pytest.fixture(scope="session")
def venv(lab, tmp_path_factory) -> Path:
    """A virtual environment with pip, a .pth file and a thing installed in editable manner."""
    import subprocess

    from conftest import clean_environment

    folder = tmp_path_factory.mktemp("venv")
    prefix = folder / "env"
    subprocess.run([lab.python, "-m", "venv", prefix], env=clean_environment(lab.home), check=True)
    major, minor = lab.version
    packages = Tree(prefix / f"lib/python{major}.{minor}/site-packages")
    source = Tree(folder / "source")
    source.write(
        {"src/editable/__init__.py": "X = 'editable'\n", "src/editable/sub.py": "X = 'sub'\n"}
    )
    finder = (
        "import sys\nfrom importlib.util import spec_from_file_location\n"
        "class Finder:\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        if name == 'mapped':\n"
        f"            return spec_from_file_location(name, {str(source / 'mapped_source.py')!r})\n"
        "def install(): sys.meta_path.append(Finder)\n"
    )
    source.write({"mapped_source.py": "X = 'mapped'\n"})
    packages.write(
        {
            "__editable__.thing.pth": f"{source / 'src'}\n",
            "__editable__.mapped.pth": "import __editable___mapped_finder as f; f.install()\n",
            "__editable___mapped_finder.py": finder,
            "zz_code.pth": "import sys; sys.pth_ran = getattr(sys, 'pth_ran', 0) + 1\n",
            "zz_missing.pth": "/nonexistent/folder\n# comment\n\n",
        }
    )
    return prefix


@pytest.mark.slow  # 4 s each.
def test_pth_files_and_editable_installs(run, venv):
    run.python = venv / "bin/python"
    program = "import sys; sys.stdout.write('')\n" + DESCRIBE.replace(
        "facts = {",
        "facts = {'pth': sys.pth_ran, 'prefix': [sys.prefix, sys.base_prefix, sys.executable], ",
    )
    facts = run.same_json("-c", program, "editable", "editable.sub", "mapped", "pip")
    assert facts["pth"] >= 1
    assert facts["editable"]["file"].endswith("source/src/editable/__init__.py")
    assert facts["prefix"][0] == str(venv)


def test_changed_pth_file_is_noticed(run, venv, tree):
    run.python = venv / "bin/python"
    (packages,) = venv.glob("lib/*/site-packages")
    pth = packages / "zz_test.pth"
    tree.write({"a/which.py": "X = 'a'\n", "b/which.py": "X = 'bb'\n"})
    program = "import which; print(which.X)"
    try:
        pth.write_text(f"{tree}/a\n")
        os.utime(packages, (time.time() - 60,) * 2)
        run.prime(tree, "-c", program)
        assert run.again("-c", program).out == "a\n"
        pth.write_text(f"{tree}/b\n")
        assert run.again("-c", program).out == "bb\n"
    finally:
        pth.unlink()


def test_new_environments_belong_to_stock_python(run, tmp_path):
    """The links that -m venv makes point at stock python, never at pylaunch."""
    made = tmp_path / "made"
    result = run.again("-m", "venv", "--without-pip", made)
    assert (result.code, result.out, result.err) == (0, "", "")
    link = os.path.realpath(made / "bin/python")
    assert link == os.path.realpath(run.python)
    listing = sorted(str(p.relative_to(made)) for p in made.rglob("*"))
    assert not [x for x in listing if "pylaunch" in x]
    config = (made / "pyvenv.cfg").read_text()
    shutil.rmtree(made)
    run.stock("-m", "venv", "--without-pip", made)
    assert sorted(str(p.relative_to(made)) for p in made.rglob("*")) == listing
    assert (made / "pyvenv.cfg").read_text() == config


def test_specs_that_are_only_looked_at_are_equal(run, tree):
    """test_importlib.test_util compares them; so do tools that cache by spec."""
    tree.write({"looked_at.py": "", "pack/__init__.py": "", "pack/inner.py": ""})
    program = (
        "import importlib.util as u, importlib.machinery as m, copy\n"
        "for name in ('looked_at', 'pack', 'pack.inner', 'wave'):\n"
        "    a, b = u.find_spec(name), u.find_spec(name)\n"
        "    path = __import__('pack').__path__ if '.' in name else None\n"
        "    print(a == b, vars(a.loader), a == m.PathFinder.find_spec(name, path), copy.copy(a.loader) == a.loader)\n"
        "    module = __import__(name)\n"
        "    print(sorted(vars(module.__loader__)), a == u.find_spec(name))\n"
    )
    result = run.same("-c", program, env={"PYTHONPATH": str(tree)}, tree=tree)
    assert "False" not in result.out


@pytest.mark.slow  # 1.4 s each.
def test_pip_in_an_environment(run, venv):
    run.python = venv / "bin/python"
    result = run.same("-m", "pip", "--version")
    assert str(venv) in result.out


def test_pip_in_a_new_environment(ours, tmp_path):
    made = tmp_path / "made"
    assert ours.again("-m", "venv", made).code == 0
    shebang = (made / "bin/pip").read_text().splitlines()[0]
    assert shebang == f"#!{made}/bin/python" or re.match(rf"#!{made}/bin/python[\d.]*$", shebang)
    ours.python = made / "bin/python"
    assert str(made) in ours.again("-m", "pip", "--version").out


# ---------------------------------------------------------------------------------------------- the standard library


def test_the_whole_standard_library_imports_alike(run):
    """Every module of the standard library, described and compared (without those that open windows or browsers)."""
    program = r"""
import importlib, json, pkgutil, sys, warnings, os, re
warnings.simplefilter('ignore')
skip = {'this', 'antigravity', 'idlelib', 'tkinter', 'turtle', 'turtledemo', 'test', 'lib2to3', 'ensurepip', 'site',
        'msilib', 'nturl2path', 'rlcompleter'}
facts = {}
for name in sorted(sys.stdlib_module_names):
    if name in skip or name.startswith('_pyrepl'): continue
    try: m = importlib.import_module(name)
    except Exception as e: facts[name] = str(e); continue
    if name == '__main__': continue
    facts[name] = [getattr(m, '__file__', None), getattr(m, '__cached__', None), re.sub('0x[0-9a-f]+', '', repr(m.__spec__)),
                   getattr(m, '__loader__', None).__class__.__name__, len(vars(m)), getattr(m, '__doc__', None)]
facts['modules'] = sorted(sys.modules)
print(json.dumps(facts))
"""
    facts = run.same_json("-c", program)
    assert len(facts) > 200


def test_describe_is_json(run):
    """Guards the helper itself: an unknown module is told, not raised."""
    facts = json.loads(run.again("-c", DESCRIBE, "no_such_thing").out)
    assert facts["no_such_thing"][0] == "ModuleNotFoundError"


def test_syntax_warning_without_pyc_is_shown_at_every_start(run, tree):
    """Stock compiles anew each time, so it warns each time; code from the archive must not hide that."""
    tree.write({"warny.py": "x = 1\nif x is 1: print('one')\n", "calm.py": "X = 2\n"})
    tree.settle()
    env = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    program = "import warnings, calm, warny"
    run.prime(tree, "-c", program, env=env)
    for _ in range(2):
        result = run.again("-c", program, env=env)
        assert result == run.stock("-c", program, env=env)
        assert "SyntaxWarning" in result.err

# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Random numbers that a module draws from the system when it is imported differ between restored processes, as between stock's."""

from pathlib import Path

import pytest
from imaged import has, restored, why_not_made
from test_image_late import late, plan  # noqa: F401 - a fixture

HOOKS = Path(__file__).resolve().parents[3] / "launcher/python/resume/hooks"
SHOW = "import drawer, early, os, sys; print(drawer.value); print(os.getpid() == early.pid, file=sys.stderr)"


def need(package, name):
    if package in name and not has(package):
        pytest.skip(f"no {package}")


# What a module keeps for good, and all processes of an image would have.
LATE = {
    "generator": "import random\nvalue = random.Random().random()\n",
    "own seed": "import random\nclass Own(random.Random):\n    def __init__(self):\n        super().__init__()\nvalue = Own().random()\n",
    "uuid": "import uuid\nvalue = uuid.uuid4()\n",
    "token": "import secrets\nvalue = secrets.token_hex()\n",
    "bytes in a class": "import os\nclass Id:\n    salt = os.urandom(5)\nvalue = Id.salt\n",
    "number": "import random\nvalue = random.SystemRandom().randint(0, 10**30)\n",
    "numpy's generator": "import numpy\nvalue = numpy.random.default_rng().random()\n",
    "numpy's old generator": "import numpy\nvalue = numpy.random.RandomState().rand()\n",
    "default argument": "import random\ndef draw(rng=random.Random()): return rng.random()\nvalue = draw()\n",
    "thread": "import os, threading\ndef draw():\n    global value\n    value = os.urandom(9)\nt = threading.Thread(target=draw)\nt.start()\nt.join()\n",
}


@pytest.mark.parametrize("name", LATE)
def test_who_draws_when_imported_is_imported_late(plan, name):  # noqa: F811
    need("numpy", name)
    start = plan(
        {"drawer.py": LATE[name]}, ["import early", "optional import numpy", "import drawer"], SHOW
    )
    found = start()
    assert why_not_made(found) == "'import drawer' drew random numbers: drawer; from the next start on imported late", found.err  # fmt: skip
    runs = [start() for _ in range(3)]
    assert "image: being made" in runs[0].err
    for run in runs:
        assert late(run) == {"--preload:1:1: 'import drawer'": "drew random numbers: drawer"}
    for run in runs[1:]:
        assert restored(run) and "False" in run.err.split()  # `early` is from the image.
    assert len({run.out for run in [found, *runs]}) == 4


# What gives every process of stock's the same, is renewed, or is kept nowhere.
IN_THE_IMAGE = {
    "seed": "import random\nvalue = random.Random(42).random()\n",
    "numpy's seed": "import numpy\nvalue = numpy.random.default_rng(42).random()\n",
    "system's numbers, none drawn": "import random\nrng = random.SystemRandom()\nvalue = type(rng)\n",
    "standard library": "import random, secrets, uuid, tempfile, ssl, asyncio, hashlib, email.utils, http.server\n"
    "import multiprocessing.pool, multiprocessing.managers, concurrent.futures.process, xmlrpc.client\nvalue = 1\n",
    "temporary folder": "import tempfile\nvalue = tempfile.gettempdir()\n",
    "numpy": "import numpy, numpy.random\nvalue = numpy.random.__name__\n",
}


@pytest.mark.parametrize("name", IN_THE_IMAGE)
def test_who_draws_nothing_of_its_own_is_in_the_image(plan, name):  # noqa: F811
    need("numpy", name)
    start = plan({"drawer.py": IN_THE_IMAGE[name]}, ["import early", "import drawer"], SHOW)
    made, again = start(), start()
    assert "image: being made" in made.err, made.err
    assert restored(again) and not late(again), again.err
    assert made.out == again.out == start.stock().out


def test_all_who_draw_by_a_library_s_function_are_found_at_once(plan):  # noqa: F811
    files = {
        "library.py": "import uuid\ndef name(): return uuid.uuid4().hex\n",
        "one.py": "import library\nvalue = library.name()\n",
        "two.py": "import library\nvalue = library.name()\n",
    }
    start = plan(files, ["import early", "import one", "import library", "import two"], "import one, two; print(one.value, two.value)")  # fmt: skip
    runs = start.settle()
    assert len(runs) == 2, [run.err for run in runs]
    runs += [start(), start()]
    assert restored(runs[-1]) and late(runs[-1]) == {
        f"--preload:1:1: 'import {module}'": "drew random numbers: library"
        for module in ("one", "two")
    }
    assert len({word for run in runs for word in run.out.split()}) == 8


# As in multiprocess, celery's billiard and their like.
COPY = """
import os
class AuthenticationString(bytes): pass
class Process:
    def __init__(self): self._config = {"authkey": AuthenticationString(os.urandom(32))}
ORIGINAL_DIR = os.path.abspath(os.getcwd())
_current = Process()
def current_process(): return _current
"""


@pytest.mark.parametrize("package", ["multiprocess", "billiard"])
def test_what_a_hook_renews_is_in_the_image(plan, package):  # noqa: F811
    program = f"import {package}.process as p, os; key = p.current_process()._config['authkey']; print(key.hex(), type(key).__name__, p.ORIGINAL_DIR == os.getcwd())"
    files = {f"{package}/__init__.py": "", f"{package}/process.py": COPY}
    start = plan(files, [f"import {package}.process"], program)
    known = (HOOKS / f"{package}.process.py").read_text().splitlines()[0].rpartition("==")[2]
    (start.lib / f"{package}-{known}.dist-info").mkdir()
    runs = [start(), start(), start()]
    assert [restored(run) for run in runs] == [False, True, True], [run.err for run in runs]
    assert not any(late(run) for run in runs)
    assert len({run.out.split()[0] for run in runs}) == 3
    assert {tuple(run.out.split()[1:]) for run in runs} == {("AuthenticationString", "True")}


# Modules that keep a generator of their own, as they are made, and what shows it.
GENERATORS = {
    "gensim.utils": (
        "import numpy as np\ndefault_prng = np.random.default_rng()\n",
        "m.default_prng.random(), m.default_prng.bit_generator.seed_seq.entropy, m.default_prng.spawn(1)[0].random()",
    ),
    "more_itertools.recipes": (
        "import random\n_private_randrange = random.Random().randrange\n",
        "m._private_randrange(10**9)",
    ),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_of_a_module_is_seeded_anew(plan, name):  # noqa: F811
    text, shown = GENERATORS[name]
    if "numpy" in text and not has("numpy"):
        pytest.skip("no numpy")
    package = name.partition(".")[0]
    files = {f"{package}/__init__.py": "", f"{name.replace('.', '/')}.py": text}
    start = plan(files, [f"import {name}"], f"import {name} as m; print(*({shown},))")
    known = (HOOKS / f"{name}.py").read_text().splitlines()[0].rpartition("==")[2]
    (start.lib / f"{package}-{known}.dist-info").mkdir()
    runs = [start(), start(), start()]
    assert [restored(run) for run in runs] == [False, True, True], [run.err for run in runs]
    assert not any(late(run) for run in runs)
    assert all(
        len(set(values)) == 3 for values in zip(*(run.out.split() for run in runs), strict=True)
    )

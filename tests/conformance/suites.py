"""What is run: CPython's own tests, as each Python has them installed, and other people's."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from layout import Prefix


@dataclass(frozen=True)
class Suite:
    name: str
    pytest: tuple[str, ...] = ()  # Its arguments; or else
    module: str = ""  # what unittest runs.
    source: str = ""  # A package in whose unpacked source distribution pytest runs.
    timeout: float = 1200
    starts_children: bool = False  # Then none under pylaunch is a failure of the harness.


# A minute or two, for every commit.
QUICK = """
    test_cmd_line test_cmd_line_script test_import test_importlib test_site test_runpy test_warnings
    test_zipimport_support
""".split()  # noqa: SIM905

# Those that start sys.executable. On some Pythons a module is not there, or all of it is skipped.
WITH_CHILDREN = """
    test_cmd_line test_cmd_line_script test_runpy test_import test_traceback test_site test_sys
    test_atexit test_weakref test_io test_gc test_signal test_faulthandler test_threading
    test_subprocess test_multiprocessing_spawn test_multiprocessing_forkserver
    test_multiprocessing_main_handling test_concurrent_futures test_asyncio test_warnings
    test_tracemalloc test_utf8_mode test_inspect test_compileall test_py_compile
    test_unittest test_capi test_audit test_repl test_zipimport_support test_profile test_json
    test_tempfile test_pydoc test_builtin test_os
""".split()  # noqa: SIM905

OTHERS = """
    test_venv test_zipimport test_importlib test_pkgutil test_modulefinder test_linecache
    test_sysconfig test_fork1 test_c_locale_coercion test_pdb test_cprofile test_trace test_pickle
    test_ctypes test_doctest test_ensurepip test_embed test_threaded_import test_frozen test_getpath
    test_pkg test_pyclbr test_module test_sys_setprofile test_sys_settrace test_bdb test_frame
    test_source_encoding test_unicode_identifiers test_exceptions test_posix test_logging
    test_support test_marshal test_dis test_code test_zipapp test_quopri test_interpreters
    test__xxsubinterpreters test__interpreters test_stable_abi_ctypes test_locale test_descr
    test_generators test_uuid test_hash test_perf_profiler test_monitoring test_readline test_pty
    test_multiprocessing_fork
""".split()  # noqa: SIM905

CPYTHON = [*WITH_CHILDREN, *OTHERS]


def cpython_suites(prefix: Prefix) -> dict[str, Suite]:
    """Every test module that this Python has, by name."""
    listing = "import os, test; print(*os.listdir(test.__path__[0]))"
    files = subprocess.check_output([prefix.stock, "-I", "-c", listing], text=True).split()
    names = [file.removesuffix(".py") for file in files]
    return {
        name: Suite(name, module=f"test.{name}", starts_children=name in WITH_CHILDREN)
        for name in names
    }


# Of NumPy, SciPy and pandas a part: what loads many extension modules, pickles, warns, reads files.
_PACKAGES = (
    Suite("importlib_metadata", ("tests",), source="importlib_metadata", starts_children=True),
    Suite("pytest", ("testing",), source="pytest", timeout=3600, starts_children=True),
    Suite("networkx", ("--pyargs", "networkx"), timeout=3600),
    Suite("numpy", ("--pyargs", "numpy.tests", "numpy.testing", "numpy.lib"), starts_children=True),
    Suite("scipy", ("--pyargs", "scipy._lib", "scipy.io", "scipy.integrate", "scipy.constants")),
    Suite("pandas", ("--pyargs", "pandas.tests.api", "pandas.tests.series", "pandas.tests.util")),
)

PACKAGES = {suite.name: suite for suite in _PACKAGES}

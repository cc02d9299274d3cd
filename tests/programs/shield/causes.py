# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Minimal two-thread reproductions of what is wrong with concurrent first imports (docs/import-races.md). argv: cause, variant."""

import os
import signal
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location

import hands
from hands import reach, report, statement, thread, until, wait_for, write

# ------------------------------------------------------------------------------------------ A: stale module

REPLACED = """
    import sys, types

    class Lazy(types.ModuleType):
        __path__ = __path__ if "__path__" in globals() else []

        def __getattr__(self, name):
            if name == "late":
                return "found"
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    EARLY
    hands.reach("in body")
    hands.until("done two", parked="two")
    new = Lazy(__name__)
    new.__spec__ = __spec__
    THEN
    sys.modules[__name__] = new
"""
A = {
    "from": "from m import late as result",
    "attribute": "import m\nresult = m.late",
    "as": "import m as z\nresult = z.late",
    "star": "from m import *\nresult = late",
    "star_without_all": "from m import *\nresult = plain",
    "own_getattr": "import m\nresult = m.late + m.own",
    "delegating": "import m\nresult = m.late\ntry:\n    m.nothing\nexcept AttributeError as e:\n    result += str(e)",
    "submodule": "import p\nimport p.sub\nresult = p.sub.x",
    "dotted": "import p.sub as z\nresult = z.x",
    "missing": "try:\n    from m import nothing\nexcept ImportError as e:\n    result = str(e).split(' (')[0]",
}


def cause_a(variant):
    early, then = "", ""
    if variant == "star":
        then = "new.__all__ = ['late']"
    if variant == "star_without_all":
        then = "new.plain = 'found'"
    if variant == "own_getattr":
        early = (
            "def __getattr__(name):\n"
            "        if name == 'own': return ' own'\n"
            "        raise AttributeError(name)"
        )
        then = "new.own = ' wrong'"
    if variant == "delegating":
        # As wrapper modules do: what the new one lacks it asks the old one for.
        early = "old = sys.modules[__name__]"
        then = "Lazy.__getattr__ = lambda self, name, d=old: 'found' if name == 'late' else getattr(d, name)"
    text = REPLACED.replace("EARLY", early).replace("THEN", then)
    write(m=text, p__init=text, p__sub="x = 'found'")
    package = "p" if variant in ("submodule", "dotted") else "m"
    one = thread("one", statement(f"import {package}"))
    wait_for("in body")
    two = thread("two", statement(A[variant]))
    one.join(), two.join()


# ------------------------------------------------------------------------------------------ B, C, D


def cause_b(_):
    write(
        a="""
            hands.reach("in a")
            hands.until("in b", parked="two")
            import b
            hands.until("done two", parked="two")
            x = "whole"
        """,
        b="""
            hands.reach("in b")
            if hands.am_i("two"):
                hands.until("done one", parked="one")
            import a

            def use():
                return a.x
        """,
    )
    one = thread("one", statement("import a\nresult = a.x"))
    wait_for("in a")
    two = thread("two", statement("import b\nresult = b.use()"))
    one.join(), two.join()


def cause_c(_):
    write(
        p__init="""
            import p.sub
            x = "whole"
        """,
        p__sub="y = 1",
    )

    # Holds p's module lock while p is not in sys.modules yet. (find_spec() would not do: the global import lock is held there.)
    class Loader(SourceFileLoader):
        def create_module(self, spec):
            if hands.am_i("one"):
                reach("making p")
                until("done two", parked="two")

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "p":
                file = hands.ROOT + "/p/__init__.py"
                return spec_from_file_location(name, file, loader=Loader(name, file))

    sys.meta_path.insert(0, Finder)
    one = thread("one", statement("import p\nresult = p.x"))
    wait_for("making p")
    two = thread("two", statement("import p.sub\nresult = p.sub.y"))
    one.join(), two.join()


def cause_d(_):
    write(
        p__init="""
            hands.reach("in p")
            hands.until("done two", parked="two")
            __path__.append(__path__[0] + "/more")
        """
    )
    os.makedirs(hands.ROOT + "/p/more")
    with open(hands.ROOT + "/p/more/far.py", "w") as file:
        file.write("x = 'found'\n")
    one = thread("one", statement("import p"))
    wait_for("in p")
    two = thread("two", statement("import p.far\nresult = p.far.x"))
    one.join(), two.join()


# ------------------------------------------------------------------------------------------ E: a failed import

E = {
    "always": "import m\nresult = m.late",
    "always_dotted": "import p.sub\nresult = p.sub.late",
    "once": "import m, sys\nresult = m.late, m is sys.modules['m'], hasattr(m, 'leftover')",
    "once_from": "from m import late as result",
    "own_exit": "import m\nresult = m.late",
}


def cause_e(variant):
    body = """
        import builtins
        if not hasattr(builtins, "tried"):
            builtins.tried = leftover = True
            hands.reach("in body")
            hands.until("done two", parked="two")
            raise {error}
        {second}
        late = "found"
    """
    error = "SystemExit(3)" if variant == "own_exit" else "ValueError('broken')"
    second = f"raise {error}" if variant.startswith(("always", "own")) else ""
    text = body.format(error=error, second=second)
    write(m=text, p__init="", p__sub=text)
    one = thread("one", statement("import p.sub" if variant == "always_dotted" else "import m"))
    wait_for("in body")
    two = thread("two", statement(E[variant]))
    one.join(), two.join()


# ------------------------------------------------------------------------------------------ F: fork


def cause_f(_):
    write(
        m="""
            hands.reach("in body")
            hands.until("forked", parked="main")
            x = "whole"
        """
    )
    hands.this_is("main")
    one = thread("one", statement("import m\nresult = m.x"))
    wait_for("in body")
    child = os.fork()
    if child == 0:
        reach("forked")  # Where the fork did not wait, the child imports anew.
        signal.alarm(3)
        import m

        os._exit(0 if m.x == "whole" else 1)
    reach("forked")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    one.join()
    hands.results["child"] = "ok" if status == 0 else f"ended with {status}"


# ------------------------------------------------------------------------------------------ G: LazyLoader


def cause_g(variant):
    write(
        m="""
            hands.reach("in body")
            hands.until("done two", parked="two")
            {}
            late = "found"
        """.format("raise ValueError('broken')" if variant == "failing" else "")
    )
    module = hands.lazy("m")
    one = thread("one", lambda: module.late)
    wait_for("in body")
    two = thread("two", lambda: module.late)
    one.join(), two.join()
    hands.results["class"] = type(module).__name__


def cause_j(_):
    """G and B: a lazy module imports what looks at it."""
    write(
        a="""
            import sys
            hands.reach("in a")
            hands.until("in lazy", parked="two")
            early = "whole"
            got = sys.modules["m"].late
            late = "whole"
        """,
        m="""
            hands.reach("in lazy")
            if hands.am_i("two"):
                hands.until("done one", parked="one")
            import a
            late = a.early

            def use():
                return a.late
        """,
    )
    module = hands.lazy("m")
    one = thread("one", statement("import a\nresult = a.late"), daemon=True)
    wait_for("in a")
    two = thread("two", lambda: module.use(), daemon=True)
    hands.results.update(one="hangs", two="hangs")
    for started in (one, two):
        started.join(5)


def cause_k(_):
    """C: what one is about to import, once its package is there, another wants meanwhile."""
    write(
        p__init="""
            hands.reach("in p")
            hands.until("in b", parked="two")
            import b
            b.use
            hands.until("done two", parked="two")
            x = "whole"
        """,
        p__sub="import r\ny = 'found'",
        r="import p.sub",
        b="""
            hands.reach("in b")
            if hands.am_i("two"):
                hands.until("done one", parked="one")
            import p.sub

            def use():
                import p
                return p.sub.y, p.x
        """,
    )
    one = thread("one", statement("import p.sub\nresult = p.sub.y, p.x"))
    wait_for("in p")
    two = thread("two", statement("import b\nresult = b.use()"))
    one.join(), two.join()


# ------------------------------------------------------------------------------------------ B, beyond the end of a turn


def cause_i(_):
    """A thread started by a module body goes on importing after the body's end."""
    write(
        m="""
            hands.started = hands.thread("child", hands.statement("import a\\nresult = a.x"))
            hands.wait_for("in a")
        """,
        a="""
            hands.reach("in a")
            hands.until("in b", parked="other")
            import b
            hands.until("done other", parked="other")
            x = "whole"
        """,
        b="""
            hands.reach("in b")
            if hands.am_i("other"):
                hands.until("done child", parked="child")
            import a

            def use():
                return a.x
        """,
    )
    import m  # noqa: F401

    other = thread("other", statement("import b\nresult = b.use()"))
    hands.started.join(), other.join()


# ------------------------------------------------------------------------------------------ gh-149728: the parent's attribute


def cause_h(_):
    write(p__init="", p__sub="x = 'found'")

    def trace(frame, event, arg):
        if frame.f_code.co_name != "_find_and_load_unlocked" or frame.f_locals["name"] != "p.sub":
            return trace
        if "module" in frame.f_locals and not hands.has_reached("between"):
            reach("between")
            until("done two", parked="two")
        return trace

    def load():
        sys.settrace(trace)
        import p.sub

        return p.sub.x

    import p  # noqa: F401

    one = thread("one", load)
    wait_for("between")
    two = thread("two", statement("import p.sub\nresult = p.sub.x"))
    one.join(), two.join()


globals()["cause_" + sys.argv[1]](sys.argv[2] if len(sys.argv) > 2 else None)
report()

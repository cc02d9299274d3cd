# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Programs that work under stock Python and that a careless import lock would hang, delay or change. argv: trap.

Each prints what it came to; a last line `delay=SECONDS` is the time for which imports that ought to go ahead at once were held
up in all.
"""

import asyncio
import atexit
import concurrent.futures
import importlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import hands
from hands import reach, report, statement, thread, wait_for, write

held_up = 0.0


def timed(function, *args):
    """Counts the time that `function` takes as a delay: it imports something tiny."""
    global held_up
    start = time.monotonic()
    try:
        return function(*args)
    finally:
        held_up += time.monotonic() - start


def tiny(count, prefix="tiny"):
    write(**{f"{prefix}{i}": f"x = {i}" for i in range(count)})
    return [f"{prefix}{i}" for i in range(count)]


def load(name):
    return timed(importlib.import_module, name)


def import_in_thread(name):
    """Imports `name` in a thread of its own and waits for it."""
    worker = threading.Thread(target=load, args=(name,))
    worker.start()
    worker.join()


hands.load, hands.timed, hands.import_in_thread = load, timed, import_in_thread

# ------------------------------------------------------------------------------------------ bodies that start threads


def joins():
    tiny(30)
    write(
        m="""
            for i in range(30):
                hands.import_in_thread(f"tiny{i}")
            x = "whole"
        """
    )
    import m

    print(m.x, "tiny29" in sys.modules)


def joins_many_at_once():
    tiny(30)
    write(
        m="""
            import threading
            threads = [threading.Thread(target=hands.load, args=(f"tiny{i}",)) for i in range(30)]
            for t in threads: t.start()
            for t in threads: t.join()
        """
    )
    import m

    print(len(m.threads), all(f"tiny{i}" in sys.modules for i in range(30)))


def joins_nested():
    for i in range(5):
        write(**{f"n{i}": f"hands.import_in_thread('n{i + 1}')" if i < 4 else "x = 1"})
    import_in_thread("n0")
    print(sorted(name for name in sys.modules if name in {"n0", "n1", "n2", "n3", "n4"}))


def executor():
    tiny(30)
    write(
        m="""
            from concurrent.futures import ThreadPoolExecutor
            with ThreadPoolExecutor(4) as pool:
                found = [f.__name__ for f in pool.map(hands.load, [f"tiny{i}" for i in range(30)])]
        """
    )
    import m

    print(m.found[-1], len(m.found))


def older_pool():
    """The pool was there before the module body that waits for it: 30 imports, one after the other."""
    names = tiny(30)
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.submit(int).result()
    hands.pool, hands.names = pool, names
    write(m="found = [hands.pool.submit(hands.load, name).result().x for name in hands.names]")
    import m

    print(m.found == list(range(30)))
    pool.shutdown()


def older_pool_at_once():
    names = tiny(30)
    pool = concurrent.futures.ThreadPoolExecutor(8)
    list(pool.map(lambda _: time.sleep(0.01), range(8)))
    hands.pool, hands.names = pool, names
    write(m="found = [x.x for x in hands.pool.map(hands.load, hands.names)]")
    start = time.monotonic()
    import m

    global held_up
    held_up = time.monotonic() - start
    print(m.found == list(range(30)))
    pool.shutdown()


def older_pool_imports_submodules():
    """As older_pool, and what it imports lies in the package whose body waits."""
    write(**{f"p__sub{i}": f"x = {i}" for i in range(30)})
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.submit(int).result()
    hands.pool, hands.names = pool, [f"p.sub{i}" for i in range(30)]
    write(
        p__init="found = [hands.pool.submit(hands.load, name).result().x for name in hands.names]"
    )
    import p

    print(p.found == list(range(30)))
    pool.shutdown()


def own_thread_imports_submodules():
    write(**{f"p__sub{i}": f"x = {i}" for i in range(30)})
    write(p__init="for i in range(30):\n    hands.import_in_thread(f'p.sub{i}')")
    import p

    print(p.sub29.x)


def polls_for_submodule():
    """A body that asks over and over whether an older thread has imported a part of its package."""
    write(p__sub="y = 1")

    def run():
        reach("ready")
        wait_for("in p")
        return load("p.sub").y

    worker = thread("one", run)
    wait_for("ready")
    write(
        p__init="""
            import time
            hands.reach("in p")
            while not hands.has_reached("done one"):
                time.sleep(0.02)
        """
    )
    import p  # noqa: F401

    worker.join()
    report()


def own_thread_looks_at_lazy_module():
    """The body of a lazy module joins a thread that looks at the module. (CPython's fix of 3.12.3 hangs.)"""
    write(
        m="""
            import sys
            early = 1
            hands.thread("one", lambda: hands.timed(getattr, sys.modules["m"], "early")).join()
            late = 2
        """
    )
    if sys.version_info >= (3, 12, 3):
        return
    print(hands.lazy("m").late)
    report()


def lazy_module_takes_lock():
    """The body of a lazy module takes a lock that one who looks at the module holds. (CPython's fix of 3.12.3 hangs.)"""
    if sys.version_info >= (3, 12, 3):
        return
    hands.lock = threading.Lock()
    write(
        m="""
            early = 1
            hands.reach("in m")
            with hands.lock:
                late = 2
        """
    )
    module = hands.lazy("m")

    def two():
        with hands.lock:
            reach("locked")
            wait_for("in m")
            return module.early

    worker = thread("two", two)
    wait_for("locked")
    print(module.late)
    worker.join()
    report()


def long_body():
    """Imports go on in a thread that the body has started while the body itself works, never waiting for it."""
    names = tiny(200)
    hands.names = names
    write(
        m="""
            import threading, time
            stop = time.monotonic() + 2
            worker = threading.Thread(target=lambda: [hands.load(name) for name in hands.names])
            worker.start()
            while time.monotonic() < stop:
                time.sleep(0.001)
        """
    )
    import m

    m.worker.join()
    print("tiny199" in sys.modules)


def long_body_older_thread():
    """A body that works, imports nothing and waits for nobody; an older thread imports. It is let go after five seconds, once."""
    names = tiny(20)
    write(
        m="""
            import time
            hands.reach("in m")
            while not hands.has_reached("done one"):
                sum(range(1000))
        """
    )

    def run():
        reach("ready")
        wait_for("in m")
        start = time.monotonic()
        for name in names:
            importlib.import_module(name)
        return time.monotonic() - start < 6.5

    thread("one", run)
    wait_for("ready")
    import m  # noqa: F401

    report()


def unjoined():
    """A thread started by a body imports the body's own package once that is there."""
    write(
        p__init="""
            import threading
            def late():
                import p.sub
                hands.results["late"] = p.sub.y, p.x
            worker = threading.Thread(target=late)
            worker.start()
            x = "whole"
        """,
        p__sub="y = 1",
    )
    import p

    p.worker.join()
    report()


# ------------------------------------------------------------------------------------------ bodies that wait for an importing thread


def application_lock():
    """One holds a lock and imports; the other imports and takes the lock."""
    tiny(1)
    hands.lock = threading.Lock()
    write(
        m="""
            hands.reach("in m")
            hands.until("done two", parked="two")
            with hands.lock:
                x = "whole"
        """
    )

    def two():
        with hands.lock:
            reach("locked")
            wait_for("in m")
            return load("tiny0").x

    worker = thread("two", two)
    wait_for("locked")
    import m

    worker.join()
    print(m.x)
    report()


def serve(write_end, data=b"x"):
    """A thread that was there before: it imports, and only then serves."""

    def run():
        reach("serving")
        wait_for("in m")
        module = load("tiny0")
        os.write(write_end, data)
        return module.x

    worker = thread("server", run)
    wait_for("serving")
    return worker


def served(body):
    tiny(1)
    hands.read_end, write_end = os.pipe()
    worker = serve(write_end)
    write(m="hands.reach('in m')\n" + body)
    import m

    worker.join()
    print(m.got)
    report()


def pipe():
    served("import os\ngot = os.read(hands.read_end, 1)")


def epoll():
    served(
        "import select\np = select.epoll()\np.register(hands.read_end, select.EPOLLIN)\ngot = len(p.poll())"
    )


def epoll_with_timeouts():
    served(
        "import select\np = select.epoll()\np.register(hands.read_end, select.EPOLLIN)\ngot = []\n"
        "while not got:\n    got = p.poll(0.05)\ngot = len(got)"
    )


def polling():
    served(
        "import os, time\nwhile not hands.has_reached('done server'):\n    time.sleep(0.02)\ngot = 1"
    )


def condition():
    served("hands.wait_for('done server')\ngot = 1")


def queue_timeouts():
    served(
        "import select\nwhile not select.select([hands.read_end], [], [], 0.03)[0]: pass\ngot = 1"
    )


def child_process():
    tiny(1)
    read_end, hands.write_end = os.pipe()

    def run():
        reach("serving")
        wait_for("in m")
        module = load("tiny0")
        os.write(hands.write_end, b"hello")
        os.close(hands.write_end)
        return module.x

    worker = thread("server", run)
    wait_for("serving")
    hands.read_end = read_end
    write(
        m="""
            import subprocess
            hands.reach("in m")
            got = subprocess.run(["head", "-c", "5"], stdin=hands.read_end, capture_output=True).stdout
        """
    )
    import m

    worker.join()
    print(m.got)
    report()


def socket_server():
    tiny(1)
    hands.ours, theirs = socket.socketpair()

    def run():
        reach("serving")
        request = theirs.recv(10)
        module = load("tiny0")
        theirs.send(request + str(module.x).encode())

    worker = thread("server", run)
    wait_for("serving")
    write(m="hands.ours.send(b'ask')\ngot = hands.ours.recv(10)")
    import m

    worker.join()
    print(m.got)


def event_loop():
    tiny(3)
    write(
        m="""
            import asyncio
            async def main():
                return [(await asyncio.to_thread(hands.load, f"tiny{i}")).x for i in range(3)]
            got = asyncio.run(main())
        """
    )
    import m

    print(m.got)


def to_thread():
    tiny(8)

    async def main():
        return await asyncio.gather(
            *(asyncio.to_thread(importlib.import_module, f"tiny{i}") for i in range(8))
        )

    print([module.x for module in asyncio.run(main())])


# ------------------------------------------------------------------------------------------ signals


def signal_while_importing():
    """A handler imports while the main thread is inside an import."""
    tiny(1)
    signal.signal(signal.SIGUSR1, lambda *_: reach(f"handled {load('tiny0').x}"))
    write(m="import os, signal\nos.kill(os.getpid(), signal.SIGUSR1)\nhands.wait_for('handled 0')")
    import m  # noqa: F401

    print("tiny0" in sys.modules)


def signal_while_waiting():
    """A handler runs, and imports, while the main thread waits for an import of another, which waits for the handler."""
    tiny(1)
    hands.this_is("main")
    signal.signal(signal.SIGUSR1, lambda *_: reach(f"handled {load('tiny0').x}"))
    write(
        m="""
            import os, signal
            hands.reach("in m")
            hands.until("never", parked="main")
            os.kill(os.getpid(), signal.SIGUSR1)
            hands.wait_for("handled 0")
            x = "whole"
        """
    )
    worker = thread("one", statement("import m"))
    wait_for("in m")
    import m

    worker.join()
    print(m.x, "tiny0" in sys.modules)


def interrupt():
    """Ctrl-C ends the wait for a module that another thread imports."""
    hands.this_is("main")
    write(
        m="""
            import os, signal
            hands.reach("in m")
            hands.until("never", parked="main")
            os.kill(os.getpid(), signal.SIGINT)
            hands.wait_for("interrupted")
            x = "whole"
        """
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = thread("one", statement("import m"))
    wait_for("in m")
    try:
        import m
    except KeyboardInterrupt:
        print("KeyboardInterrupt")
    reach("interrupted")
    worker.join()
    import m

    print(m.x)


# ------------------------------------------------------------------------------------------ processes


def fork_while_importing():
    """A child is forked, and imports, while another thread is busy importing; over and over."""
    names = tiny(400)
    tiny(20, "child")
    worker = thread("one", lambda: [importlib.import_module(name) for name in names][-1].x)
    statuses = set()
    for i in range(20):
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            module = importlib.import_module(f"child{i}")
            busy = importlib.import_module("tiny399")
            os._exit(0 if (module.x, busy.x) == (i, 399) else 1)
        statuses.add(os.waitpid(child, 0)[1])
    worker.join()
    print(statuses)
    report()


def fork_in_body():
    """A module body forks; the child leaves by os._exit, or goes on importing."""
    tiny(2)
    write(
        m="""
            import os, signal
            first = os.fork()
            if first == 0:
                os._exit(3)
            second = os.fork()
            if second == 0:
                signal.alarm(10)
                import threading
                worker = threading.Thread(target=hands.load, args=("tiny1",))
                worker.start(); worker.join()
                import tiny0
                os._exit(tiny0.x + 4)
            got = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in (first, second)]
        """
    )
    import m

    print(m.got)
    import tiny0

    print(tiny0.x)


def fork_in_thread_of_body():
    """A thread started by a body forks, and the child imports what no one else does."""
    tiny(1)

    def forking():
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            import tiny0

            os._exit(tiny0.x + 5)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    hands.forking = forking
    write(
        m="""
            hands.thread("forker", hands.forking).join()
            x = "whole"
        """
    )
    import m

    print(m.x)
    report()


def blocked_while_forking():
    """A body waits for a thread that forks: the fork cannot wait for the body."""
    tiny(1)

    def forking():
        reach("ready")
        wait_for("in m")
        child = timed(os.fork)
        if child == 0:
            signal.alarm(10)
            import tiny0

            os._exit(tiny0.x + 6)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    worker = thread("forker", forking)
    wait_for("ready")
    write(
        m="""
            hands.reach("in m")
            hands.wait_for("done forker")
            x = "whole"
        """
    )
    import m

    worker.join()
    print(m.x)
    report()


def multiprocessing_fork():
    import multiprocessing

    names = tiny(100)
    hands.names = names
    worker = thread("one", lambda: [importlib.import_module(name) for name in names][-1].x)
    context = multiprocessing.get_context("fork")
    with context.Pool(3) as pool:
        got = pool.map(_child_import, range(12))
    worker.join()
    print(got == list(range(12)))
    report()


def _child_import(i):
    return importlib.import_module(f"tiny{i}").x


def preexec():
    """subprocess with preexec_fn forks in C, by the at-fork handlers alone."""
    tiny(1)
    write(
        m="""
            hands.reach("in m")
            hands.until("forked", parked="nobody")
        """
    )
    worker = thread("one", statement("import m"))
    wait_for("in m")

    def before_exec():
        signal.alarm(10)
        importlib.import_module("tiny0")

    print(subprocess.run(["echo", "ran"], preexec_fn=before_exec, capture_output=True).stdout)
    reach("forked")
    worker.join()


def dead_holder():
    """A thread ends inside a module body without unwinding Python (pthread_exit): others go on."""
    import ctypes

    tiny(1)
    hands.leave = lambda: ctypes.CDLL(None).pthread_exit(None)
    write(m="hands.reach('in m')\nhands.leave()")
    thread("one", statement("import m"), daemon=True)
    wait_for("in m")
    task = f"/proc/self/task/{next(t for t in threading.enumerate() if t.name == 'one').native_id}"
    while os.path.exists(task):
        time.sleep(0.001)
    print(load("tiny0").x)
    sys.stdout.flush()
    os._exit(0)


# ------------------------------------------------------------------------------------------ the end


def at_exit():
    """An atexit handler imports while a daemon thread is stuck inside an import."""
    tiny(1)
    write(m="hands.reach('in m')\nhands.wait_for('never')")
    thread("one", statement("import m"), daemon=True)
    wait_for("in m")
    atexit.register(lambda: print(load("tiny0").x, f"delay={held_up:.3f}", flush=True))


def daemon_at_exit():
    """A daemon thread goes on importing while the interpreter ends."""
    names = tiny(2000)

    def run():
        reach("running")
        for name in names:
            importlib.import_module(name)

    thread("one", run, daemon=True)
    thread("two", run, daemon=True)
    wait_for("running")
    while "tiny5" not in sys.modules:
        time.sleep(0.001)
    print("end")


def thread_at_exit():
    """A thread that is not a daemon imports after the main thread has ended."""
    tiny(1)

    def run():
        threading.main_thread().join()
        print(importlib.import_module("tiny0").x)

    thread("one", run)


# ------------------------------------------------------------------------------------------ interpreters, reload, lookups


def subinterpreters():
    """A sub-interpreter imports while the main one is inside an import, and waits for nobody."""
    hands.read_end, write_end = os.pipe()
    program = f"import colorsys, json, os; os.write({write_end}, json.dumps([1]).encode())"

    def run():
        reach("ready")
        wait_for("in m")
        try:
            import _interpreters as interpreters  # 3.13

            ident = interpreters.create()
            interpreters.run_string(ident, program)
        except ImportError:
            import _xxsubinterpreters as interpreters

            ident = interpreters.create()
            interpreters.run_string(ident, program)
        interpreters.destroy(ident)

    # Imported beforehand, so that only the sub-interpreter's own imports are at stake.
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            importlib.import_module(name)
            break
        except ImportError:
            pass
    worker = thread("one", run)
    wait_for("ready")
    write(m="import os\nhands.reach('in m')\ngot = os.read(hands.read_end, 10)")
    import m

    worker.join()
    print(m.got)
    print("colorsys" in sys.modules)


def reload_twice():
    write(m="hands.count = getattr(hands, 'count', 0) + 1")
    import m

    workers = [thread(f"r{i}", lambda: importlib.reload(m) is m) for i in range(4)]
    for worker in workers:
        worker.join()
    print(hands.count >= 2)
    report()


def reload_against_import():
    """reload() holds the module's lock and imports; another imports and asks for the reloaded module."""
    write(
        m="import hands\nif hands.has_reached('reloading'):\n    hands.reach('in reload')\n    import other\nx = 1",
        other="import m\ny = m.x",
    )
    import m

    reach("reloading")
    one = thread("one", lambda: importlib.reload(m).x)
    two = thread("two", lambda: importlib.import_module("other").y)
    one.join(), two.join()
    report()


def import_module():
    write(a__init="from . import sub\nx = 1", a__sub="from a import __name__ as n\ny = 2")
    workers = [thread(f"t{i}", lambda: importlib.import_module("a.sub").y) for i in range(6)]
    for worker in workers:
        worker.join()
    missing = [thread(f"m{i}", lambda: importlib.import_module("a.none")) for i in range(3)]
    for worker in missing:
        worker.join()
    print(importlib.import_module("os") is os)
    report()


def halted():
    sys.modules["nothing"] = None
    thread("one", lambda: importlib.import_module("nothing")).join()
    thread("two", statement("import nothing")).join()
    report()


def introspection():
    """What a program can see of the functions that are replaced."""
    import inspect
    import pickle

    functions = [threading.Thread, os.fork, os.forkpty, importlib.util.module_from_spec]
    print([f.__name__ for f in functions], inspect.signature(os.fork))
    print(
        pickle.loads(pickle.dumps(os.fork)) is os.fork,
        os.fork.__module__,
        os.fork.__self__.__name__,
    )
    import _thread

    start = _thread.start_new_thread
    print(
        repr(start),
        start.__module__,
        start.__doc__ == _thread.start_new.__doc__ or "",
        callable(start),
    )
    print(inspect.isfunction(importlib.util.module_from_spec), __import__.__qualname__)
    for wrong in (
        lambda: start(),
        lambda: start(1, ()),
        lambda: os.fork(1),
        lambda: importlib._bootstrap._find_and_load(),
    ):
        try:
            wrong()
        except TypeError as error:
            print(error)


def errors_in_threads():
    """An uncaught error in a thread reads the same."""
    import _thread

    lock = _thread.allocate_lock()
    lock.acquire()

    def failing():
        try:
            raise ValueError("in a bare thread")
        finally:
            sys.unraisablehook_seen = True
            lock.release()

    sys.unraisablehook = lambda info: (
        print(
            info.exc_type.__name__,
            getattr(info.object, "__name__", None) or info.err_msg.split(" at ")[0].split("0x")[0],
        ),
        reach("seen"),
    )
    _thread.start_new_thread(failing, ())
    lock.acquire()
    wait_for("seen")


def gevent_patched():
    from gevent import monkey

    monkey.patch_all()
    import gevent

    tiny(12)
    write(
        g="""
            import time
            hands.order.append("in g")
            time.sleep(0.05)
            import tiny11
            x = "whole"
        """
    )
    hands.order = []

    def work(i):
        name = "g" if i % 2 else f"tiny{i}"
        module = importlib.import_module(name)
        time.sleep(0)
        return module.x

    got = [job.get() for job in [gevent.spawn(work, i) for i in range(10)]]
    print(got, hands.order)
    pool = gevent.get_hub().threadpool
    print([pool.spawn(importlib.import_module, f"tiny{i}").get().x for i in range(3)])
    worker = threading.Thread(target=lambda: importlib.import_module("tiny10"))
    worker.start()
    worker.join()
    print("tiny10" in sys.modules)


globals()[sys.argv[1]]()
if sys.argv[1] != "at_exit":
    print(f"delay={held_up:.3f}", flush=True)

"""State of a process that preloading may set before the program can.

Looks only, and imports nothing: --explain has the engine run this file in the program's own
process.
"""

import sys

_NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
_SHOWN = 3


def _start_method():
    context = sys.modules["multiprocessing.context"]._default_context._actual_context
    return context and context._name


def _root_handlers():
    return ", ".join(type(x).__name__ for x in sys.modules["logging"].root.handlers)


def _root_level():
    logging = sys.modules["logging"]
    return logging.root.level != logging.WARNING and logging.getLevelName(logging.root.level)


def _backend():
    name = dict.get(sys.modules["matplotlib"].rcParams, "backend")
    return isinstance(name, str) and name


def _numpy_errors():
    found = sys.modules["numpy"].geterr()
    return ", ".join(f"{k}={v}" for k, v in sorted(found.items()) if _NUMPY_ERRORS.get(k) != v)


def _numpy_printing():
    known = {"precision": 8, "threshold": 1000, "linewidth": 75, "suppress": False}
    found = sys.modules["numpy"].get_printoptions()
    return ", ".join(f"{k}={found[k]}" for k, v in known.items() if found.get(k) != v)


def _torch():
    torch = sys.modules["torch"]
    found = []
    if torch.get_default_dtype() is not torch.float32:
        found.append(f"default dtype {torch.get_default_dtype()}")
    if not torch.is_grad_enabled():
        found.append("gradients off")
    if torch.are_deterministic_algorithms_enabled():
        found.append("deterministic algorithms")
    if torch.get_float32_matmul_precision() != "highest":
        found.append(f"matmul precision {torch.get_float32_matmul_precision()}")
    return ", ".join(found)


def _hook(name):
    hook = getattr(sys, name)
    if hook is getattr(sys, f"__{name}__"):
        return ""
    return (
        f"{getattr(hook, '__module__', '?')}.{getattr(hook, '__qualname__', type(hook).__name__)}"
    )


def _streams():
    names = ("stdin", "stdout", "stderr")
    other = [x for x in names if getattr(sys, x) is not getattr(sys, f"__{x}__")]
    return ", ".join(f"{x} is a {type(getattr(sys, x)).__name__}" for x in other)


def _loop_policy():
    events = sys.modules["asyncio.events"]
    policy = getattr(events, "_event_loop_policy", None)
    return policy is not None and type(policy).__name__


def _locale():
    locale = sys.modules["_locale"]
    return locale.setlocale(locale.LC_ALL, None)


# Each tells its state in words, and nothing where it is as Python or the library makes it.
_LOOKS = {
    "multiprocessing's start method": ("multiprocessing.context", _start_method),
    "logging's root handlers": ("logging", _root_handlers),
    "logging's root level": ("logging", _root_level),
    "the locale": ("_locale", _locale),
    "matplotlib's backend": ("matplotlib", _backend),
    "numpy's error handling": ("numpy", _numpy_errors),
    "numpy's way to print": ("numpy", _numpy_printing),
    "torch": ("torch", _torch),
    "the default timeout of sockets": ("socket", lambda: sys.modules["socket"].getdefaulttimeout()),
    "asyncio's event loop policy": ("asyncio.events", _loop_policy),
    "gevent's patches": (
        "gevent.monkey",
        lambda: ", ".join(sorted(sys.modules["gevent.monkey"].saved)),
    ),
    "sys.excepthook": ("sys", lambda: _hook("excepthook")),
    "sys.displayhook": ("sys", lambda: _hook("displayhook")),
    "standard streams": ("sys", _streams),
    "the recursion limit": ("sys", sys.getrecursionlimit),
}


def _filters():
    """Of the module of C that `warnings` shares its list with."""
    module = sys.modules.get("warnings") or sys.modules.get("_warnings")
    return [
        (x[0], x[2].__name__, str(getattr(x[3], "pattern", x[3]) or "")) for x in module.filters
    ]


def _handlers():
    signal = sys.modules.get("signal")
    if signal is None:
        return {}
    found = {}
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if handler not in (None, signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler):
            found[number.name if hasattr(number, "name") else str(number)] = getattr(
                handler, "__qualname__", type(handler).__name__
            )
    return found


def look(signals):
    """`signals`: ask for the handlers, too, which counts as a question where an image is made."""
    found = {}
    for name, (module, value) in _LOOKS.items():
        if module in sys.modules:
            try:
                found[name] = value() or ""
            except Exception:  # Half-imported, or another version of it.
                continue
    found["warnings filters"] = _filters()
    for name, handler in _handlers().items() if signals else ():
        found[f"the handler of {name}"] = handler
    return found


def changes(before, after):
    """What somebody has set in between: name and value in words."""
    found = {}
    for name, value in after.items():
        if name == "warnings filters":
            if value == before[name]:
                continue
            new = [x for x in value if x not in before[name]] or value[:1]
            words = [" ".join(filter(None, x)) for x in new[:_SHOWN]]
            more = [f"{len(new) - _SHOWN} more"] if len(new) > _SHOWN else []
            value, was = ", ".join(words + more), ""
        else:
            was = before.get(name, "")
        if value != was and (name in before or name != "the locale"):  # Loaded, not set.
            found[name] = str(value) or "as at the start"
    return found


def in_words(found):
    return "; ".join(f"{name} ({value})" for name, value in found.items())


# What gevent and eventlet put others in the place of, by module.
_PATCHED = {
    "ssl": ("SSLContext",),
    "socket": ("socket", "create_connection", "getaddrinfo"),
    "threading": ("Thread", "Lock", "RLock", "Event", "Condition"),
    "time": ("sleep",),
    "select": ("select", "poll"),
    "subprocess": ("Popen",),
    "queue": ("Queue", "SimpleQueue"),
}


def held_unpatched(names):
    """The first module of `names` that has such an object for itself, with the object's name.

    After `from ssl import SSLContext` a patch that comes later does not reach it. The standard
    library's own are left out, since those who patch know them, and so are those who patch.
    """
    for name in sorted(names):
        if name.partition(".")[0] in (*sys.stdlib_module_names, "eventlet", "gevent"):
            continue
        space = getattr(sys.modules.get(name), "__dict__", {})
        for module, attributes in _PATCHED.items():
            there = getattr(sys.modules.get(module), "__dict__", {})
            for attribute in attributes:
                if attribute in there and space.get(attribute) is there[attribute]:
                    return name, f"{module}.{attribute}"
    return None

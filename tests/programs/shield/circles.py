"""Modules that import each other at random, and threads that import them at random. argv: seed.

Bodies sleep, and some modules are lazy. Says "ok", or what a thread came to that a single one does
not. Under stock about every second seed fails.
"""

import importlib
import random
import sys
import threading
import time

import hands

chance = random.Random(int(sys.argv[1]))
NAMES = [f"p.sub{i}" for i in range(9)] + [f"q{i}" for i in range(4)] + ["lazy0", "lazy1"]
bad = []


def body(most):
    lines = ["import time"]
    for _ in range(most):
        if chance.random() < 0.35:
            lines.append(f"time.sleep({chance.choice([0.001, 0.05, 0.35, 0.7])})")
        lines.append(f"import {chance.choice(NAMES)}")
    if chance.random() < 0.3:
        lines.append(f"time.sleep({chance.choice([0.05, 0.4])})")
    return "\n".join([*lines, "x = 1"])


def work(names, gate):
    gate.wait()
    for wait, name in names:
        time.sleep(wait)
        try:
            if len(name) % 2:
                module = importlib.import_module(name)
            else:
                __import__(name)
                module = sys.modules[name]
            assert module.x == 1
        except BaseException as error:
            bad.append(hands.describe(error))


hands.write(p__init=body(2))
for name in NAMES:
    lazy = name.startswith("lazy")
    hands.write(**{name.replace(".", "__"): body(2 if lazy else chance.randrange(4))})
    if lazy:
        hands.lazy(name)
count = chance.choice([2, 3, 6, 8])
gate = threading.Barrier(count)
threads = []
for _ in range(count):
    names = [(chance.choice([0, 0.02, 0.1]), chance.choice([*NAMES, "p"])) for _ in range(4)]
    threads.append(threading.Thread(target=work, args=(names, gate)))
for started in threads:
    started.start()
for started in threads:
    started.join()
print(bad or "ok")

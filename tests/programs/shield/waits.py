# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Eight threads want one module while another is in its body, which blocks for longer than pylaunch waits for a blocked thread that
has nothing to do with it. argv: how it blocks (hands.KINDS), ways in (default: all). Prints, for each way, what they came to.
"""

import collections
import os
import sys
import threading

import hands

# Whole only at the end: `Late`, and the folder in which `far` lies.
BODY = """
    hands.reach("in " + __name__)
    hands.block(hands.kind)
    class Late: pass
    __path__.append(hands.ROOT + "/more")
"""
PICKLE = "import pickle\nresult = pickle.loads(b'cNAME\\nLate\\n.').__name__"
IMPORT_MODULE = "import importlib\nresult = importlib.import_module('NAME').Late.__name__"
# Way in: what a thread does. A way that begins with "lazy" finds a lazy module in sys.modules.
WAYS = {
    "attribute": "import NAME\nresult = NAME.Late.__name__",
    "from": "from NAME import Late\nresult = Late.__name__",
    "star": "from NAME import *\nresult = Late.__name__",
    "import_module": IMPORT_MODULE,
    "pickle": PICKLE,
    "find_spec": "import importlib.util\nresult = importlib.util.find_spec('NAME.far') and 'Late'",
    "submodule": "import NAME.far\nresult = NAME.Late.__name__",
    "submodule_import_module": "import importlib\nresult = importlib.import_module('NAME.far').late",
    "from_submodule": "from NAME.far import late as result",
    "lazy_getattr": "import sys\nresult = getattr(sys.modules['NAME'], 'Late').__name__",
    "lazy_from": "from NAME import Late\nresult = Late.__name__",
    "lazy_import_module": IMPORT_MODULE,
    "lazy_pickle": PICKLE,
    "lazy_find_spec": "import importlib.util\nresult = importlib.util.find_spec('NAME.far') and 'Late'",
}


def come_to(way):
    name = "m_" + way
    hands.write(**{name + "__init": BODY})
    first = f"import {name}"
    if way.startswith("lazy"):
        hands.lazy(name)
        first = f"import sys\nsys.modules['{name}'].Late"
    got = collections.Counter()
    work = hands.statement(WAYS[way].replace("NAME", name))

    def run():
        try:
            got[work()] += 1
        except BaseException as error:
            got[hands.describe(error)] += 1

    threads = [hands.thread(way, hands.statement(first))]
    hands.wait_for("in " + name)
    threads += [threading.Thread(target=run) for _ in range(8)]
    for started in threads[1:]:
        started.start()
    for started in threads:
        started.join()
    return f"first {hands.results[way]}, then {dict(got)}"


hands.kind = sys.argv[1]
os.mkdir(hands.ROOT + "/more")
with open(hands.ROOT + "/more/far.py", "w") as file:
    file.write("late = 'Late'\n")
for way in sys.argv[2:] or WAYS:
    print(f"{way}: {come_to(way)}", flush=True)

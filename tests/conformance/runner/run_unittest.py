"""Runs one unittest module and writes the outcome of each case as it happens, a JSON line each.

Usage: run_unittest.py OUT MODULE. Runs under the Python that is examined, 3.10 or newer, and lies
alone in its folder so that sys.path[0] offers nothing else. A case that never gets an outcome (the
process died in it) is known by its "started" line.
"""

import importlib
import json
import os
import random
import sys
import unittest


class Outcomes(unittest.TestResult):
    def __init__(self, out):
        super().__init__()
        self.out = out
        self.told = False

    def tell(self, test, outcome, detail=""):
        self.told = True
        json.dump({"case": test.id(), "outcome": outcome, "detail": detail}, self.out)
        self.out.write("\n")
        self.out.flush()

    def startTest(self, test):
        super().startTest(test)
        self.tell(test, "started")
        self.told = False

    def stopTest(self, test):
        if not self.told:
            self.tell(test, "failed", "in a subtest")
        super().stopTest(test)

    def addSuccess(self, test):
        self.tell(test, "passed")

    def _fail(self, test, kind, err):
        self.tell(test, f"{kind}: {err[0].__qualname__}", self._exc_info_to_string(err, test))

    def addError(self, test, err):
        self._fail(test, "error", err)

    def addFailure(self, test, err):
        self._fail(test, "failed", err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self._fail(subtest, "failed", err)
            self.told = False

    def addSkip(self, test, reason):
        self.tell(test, f"skipped: {reason}")

    def addExpectedFailure(self, test, err):
        self.tell(test, "expected failure")

    def addUnexpectedSuccess(self, test):
        self.tell(test, "unexpected success")


class Module(unittest.TestCase):
    """The module as a whole: what happens to it outside of its cases."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def runTest(self):
        """Never run; unittest wants it."""

    def id(self):
        return self.name


def main(out, name):
    # What pylaunch has preloaded, stock shall have imported, too.
    exec(os.environ.pop("CONFORMANCE_PRELOAD", ""), {})
    os.environ.pop("PYLAUNCH_PRELOAD", None)
    from test import support

    support.verbose = 0
    support.use_resources = ["subprocess"]  # No network, no gigabytes.
    random.seed(0)  # As regrtest does: some tests draw their input.
    with open(out, "a", encoding="utf-8") as file:
        file.write(json.dumps({"executable": os.readlink("/proc/self/exe")}) + "\n")
        outcomes = Outcomes(file)
        try:
            importlib.import_module(name)
            suite = unittest.defaultTestLoader.loadTestsFromName(name)
        except unittest.SkipTest as reason:
            outcomes.addSkip(Module(name), str(reason))
            return 0
        suite.run(outcomes)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""The harness of scripts/conformance itself: what it calls different, flaky, allowed; that it counts children."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "conformance"))
from compare import differences, read_allowed, reason
from engine_watch import EngineWatch
from outcomes import Run


def run(outcome: str | None) -> Run:
    return Run({"m.C.test": outcome} if outcome else {})


@pytest.mark.parametrize(
    ("stock", "ours", "verdict"),
    [
        (["passed"] * 3, ["failed: X"] * 3, "different"),
        (["passed"] * 3, [None] * 3, "different"),
        (["failed: X"] * 3, ["failed: Y"] * 3, "different"),
        (["passed"] * 3, ["skipped: no"] * 3, "different"),
        (["passed"] * 3, ["failed: X", "passed", "passed"], "unsteady"),
        (["passed", "failed: X", "passed"], ["failed: X"] * 3, "flaky"),
        (["failed: X", "passed", "failed: X"], ["passed", "failed: X", "passed"], "flaky"),
    ],
)
def test_verdicts(stock, ours, verdict):
    again = iter(zip(stock[1:], ours[1:], strict=True))

    def repeat():
        first, second = next(again)
        return run(first), run(second)

    (difference,) = differences([run(stock[0])], run(ours[0]), repeat, repeats=2)
    assert difference.verdict == verdict


def test_what_varies_from_run_to_run_is_no_difference():
    stock, ours = run("skipped: pid 17 at 0x7fab"), run("skipped: pid 99 at 0x7ccc")
    assert differences([stock], ours, lambda: pytest.fail("repeated"), repeats=2) == []


def test_every_allowed_difference_has_its_reason(tmp_path):
    allowed = read_allowed(ROOT / "tests" / "conformance" / "allowed.toml")
    assert all(len(entry.reason) > 20 for entry in allowed)
    (difference,) = differences([run("passed")], run("failed: X"), lambda: None, repeats=0)
    assert reason(allowed, difference, "3.11.7") is None
    path = tmp_path / "allowed.toml"
    path.write_text('[[allowed]]\ncase = "m.*"\nreason = "here"\npython = "3.11.*"\n')
    assert reason(read_allowed(path), difference, "3.11.7") == "here"
    assert reason(read_allowed(path), difference, "3.12.1") is None
    path.write_text('[[allowed]]\ncase = "m.*"\n')
    with pytest.raises(TypeError):
        read_allowed(path)


def test_processes_with_the_engine_are_counted(installed, tmp_path):
    (engine,) = [
        x
        for x in Path(installed, "libexec/pylaunch").glob("engine-*.so")
        if version(installed) in x.name
    ]
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', '0']); subprocess.run(['/bin/true'])"
    for name, count in (("python", 0), ("pylaunch", 2)):
        with EngineWatch(engine) as watch:
            subprocess.run([installed / "bin" / name, "-I", "-c", program], check=True)
        assert watch.count == count


def version(prefix: Path) -> str:
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.check_output([prefix / "bin/python", "-c", program], text=True).strip()

# ruff: noqa: E501 - programs in strings read better on long lines.
"""--report writes what imports cost, as JSON, for speedscope and as a page that needs nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import Result, Tree, clean_environment, finish, start

FILES = {
    "slow.py": "import time\ntime.sleep(0.05)\nimport slow_inner\nfrom pack import part\n",
    "slow_inner.py": "import time\ntime.sleep(0.03)\n",
    "pack/__init__.py": "",
    "pack/part.py": "KEEP = bytearray(24 << 20)\n",
    "space/inside.py": "",
    "broken.py": "import pack\nraise ValueError('no')\n",
    "on_thread.py": "",
}
PROGRAM = """
import threading
import slow, space.inside, _bisect
for name in ("broken", "absent"):
    try: __import__(name)
    except Exception: pass
thread = threading.Thread(target=lambda: __import__("on_thread"), name="second <thread>")
thread.start(); thread.join()
"""


class Reporter:
    def __init__(self, lab, base: Path):
        self.lab = lab
        self.base = base
        self.tree = Tree(base / "tree").write({**FILES, "main.py": PROGRAM})
        self.cache = base / "cache"

    def run(self, *args, flags=(), env=None) -> Result:
        launch = [self.lab.pylaunch, "--python", self.lab.python, "--cache", self.cache, *flags]
        full = clean_environment(self.lab.home, PYLAUNCH_SEAL="wait", **(env or {}))
        code, out, err = finish(start([*launch, *args], full, self.tree.root))
        return Result(code, out.decode(), err.decode())

    def report(self, suffix: str, *args, flags=(), code=0) -> str:
        path = self.base / f"report{suffix}"
        done = self.run(*(args or ["main.py"]), flags=["--report", path, *flags])
        assert (done.code, done.err) == (code, ""), done
        return path.read_text("utf-8")

    def json(self, *args, **kwargs) -> dict:
        return json.loads(self.report(".json", *args, **kwargs))


@pytest.fixture
def reporter(lab, tmp_path) -> Reporter:
    lab.need_pylaunch()
    return Reporter(lab, tmp_path)


@pytest.fixture(scope="module")
def report(lab, tmp_path_factory) -> dict:
    """One report of PROGRAM, on an archive that holds nothing yet."""
    lab.need_pylaunch()
    return Reporter(lab, tmp_path_factory.mktemp("report")).json()


def named(report: dict, name: str) -> dict:
    found = [m for m in report["modules"] if m["name"] == name]
    assert len(found) == 1, (name, found)
    return found[0]


# ---------------------------------------------------------------------------------------------- JSON


def test_self_time_is_what_the_module_itself_took(report):
    slow, inner = named(report, "slow"), named(report, "slow_inner")
    assert 50 <= slow["self_ms"] < slow["total_ms"]
    assert slow["total_ms"] >= 80 and inner["total_ms"] >= 30
    assert inner["parent"] == slow["id"] and slow["parent"] is None


def test_children_lie_inside_their_parents_and_add_up(report):
    by_id = {m["id"]: m for m in report["modules"]}
    inside = {}
    for module in report["modules"]:
        if module["parent"] is not None:
            parent = by_id[module["parent"]]
            assert parent["begin_ms"] <= module["begin_ms"]
            assert (
                module["begin_ms"] + module["total_ms"]
                <= parent["begin_ms"] + parent["total_ms"] + 0.01
            )
            inside.setdefault(parent["id"], []).append(module)
    for module in report["modules"]:
        children = inside.get(module["id"], [])
        added = module["self_ms"] + sum(c["total_ms"] for c in children)
        assert added == pytest.approx(module["total_ms"], abs=0.01 + 0.001 * len(children))
        memory = module["self_memory"] + sum(c["memory"] for c in children)
        assert memory == module["memory"]


def test_memory_goes_to_the_module_that_took_it(report):
    part = named(report, "pack.part")
    assert part["self_memory"] >= 24 << 20
    assert named(report, "slow")["memory"] >= 24 << 20 > named(report, "slow")["self_memory"]


def test_kinds_outcomes_and_threads(report):
    def what(name):
        module = named(report, name)
        return module["kind"], module["outcome"], report["threads"][module["thread"]]["name"]

    assert what("slow") == ("source", "loaded", "MainThread")
    assert what("space") == ("namespace", "loaded", "MainThread")
    assert what("broken") == ("source", "failed", "MainThread")
    assert what("absent") == ("", "not found", "MainThread")
    assert what("on_thread") == ("source", "loaded", "second <thread>")
    assert [t["main"] for t in report["threads"]] == [True, False]
    assert report["threads"][1]["modules"] == 1
    assert named(report, "_bisect")["kind"] in ("extension", "built-in")
    assert named(report, "encodings")["phase"] == "start"
    assert named(report, "slow")["phase"] == "program"


def test_the_archive_s_answers_and_why(reporter):
    def answers(report):
        names = ("slow", "pack.part", "space", "absent")
        return [named(report, name)["archive"] for name in names]

    first = reporter.json()
    kept_out = ["-: namespace package", ""]
    assert answers(first) == ["miss: not in it yet"] * 2 + kept_out
    assert first["archive"]["hits"] == 0 < first["archive"]["misses"]
    reporter.tree.settle()
    reporter.json()
    second = reporter.json()
    assert answers(second) == ["hit"] * 2 + kept_out
    assert named(second, "slow")["code_bytes"] > 100
    reporter.tree.write({"slow.py": FILES["slow.py"] + "X = 1\n"}, age=50)
    assert answers(reporter.json())[:2] == ["miss: the source has changed", "hit"]
    off = reporter.json(flags=["--cache-mode=off"])
    assert off["archive"] == {"used": False, "hits": 0, "misses": 0}
    assert answers(off)[0] == "off"


def test_code_bytes_without_an_archive_are_those_of_the_pyc_file(reporter):
    off = [reporter.json(flags=["--cache-mode=off"]) for _ in range(2)][1]
    slow = named(off, "slow")
    pyc = next(Path(slow["file"]).parent.glob("__pycache__/slow.*.pyc"))
    assert slow["code_bytes"] == pyc.stat().st_size - 16


def test_each_preload_entry_has_its_time_and_memory(reporter):
    lines = "import slow_inner, wave\nfrom pack.part import KEEP\noptional absent\nimport slow\n"
    (reporter.tree / "list.txt").write_text(lines)
    report = reporter.json("-c", "import on_thread", flags=["--preload", "list.txt"])
    entries = report["entries"]
    assert [(e["entry"], e["where"], e["outcome"]) for e in entries] == [
        ("import slow_inner", "list.txt:1:1", "loaded"),
        ("import wave", "list.txt:1:20", "loaded"),
        ("from pack.part import KEEP", "list.txt:2:1", "loaded"),
        ("import absent", "list.txt:3:10", "failed"),
        ("import slow", "list.txt:4:1", "loaded"),
    ]
    assert entries[0]["total_ms"] >= 30 and entries[0]["modules"] == 1
    assert entries[2]["memory"] >= 24 << 20 and entries[2]["modules"] == 2
    assert named(report, "slow_inner")["parent"] == entries[0]["id"]
    assert {named(report, n)["phase"] for n in ("slow", "wave")} == {"preload"}
    assert named(report, "on_thread")["phase"] == "program"
    assert report["preload_ms"] >= 80 and report["start_ms"] > 0


def test_a_launch_that_preloading_stops_is_reported(reporter):
    path = reporter.base / "stopped.json"
    done = reporter.run(
        "-c",
        "1",
        flags=["--report", path, "--preload", "import slow", "--preload", "import absent"],
    )
    assert done.code == 1
    report = json.loads(path.read_text())
    assert [e["outcome"] for e in report["entries"]] == ["loaded", "failed"]
    assert report["program_ms"] == 0


def test_many_tries_at_a_missing_module_are_kept_once(reporter):
    source = "for _ in range(1000):\n    try: import absent\n    except ImportError: pass"
    report = reporter.json("-c", source)
    assert report["complete"] and named(report, "absent")["outcome"] == "not found"


def test_a_daemon_thread_in_the_middle_of_an_import(reporter):
    reporter.tree.write({"endless.py": "import threading\nthreading.Event().wait()\n"})
    source = (
        "import threading, time, sys\n"
        "threading.Thread(target=__import__, args=('endless',), daemon=True).start()\n"
        "while 'endless' not in sys.modules: time.sleep(0.01)\ntime.sleep(0.1)\n"
    )
    endless = named(reporter.json("-c", source), "endless")
    assert endless["outcome"] == "unfinished" and endless["total_ms"] >= 90


def test_deep_chains_of_imports(reporter):
    files = {f"chain{i}.py": f"import chain{i + 1}\n" for i in range(60)}
    reporter.tree.write({**files, "chain60.py": ""})
    report = reporter.json("-c", "import chain0")
    assert named(report, "chain0")["modules"] == 61
    reporter.report(".html", "-c", "import chain0")
    reporter.report(".speedscope.json", "-c", "import chain0")


@pytest.mark.parametrize("name", ["report.txt", "report", "report.speedscope", ".json.bak"])
def test_another_suffix_is_refused_before_the_program_starts(reporter, name):
    done = reporter.run("-c", "print('ran')", flags=["--report", name])
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"pylaunch: error: --report: '{name}' has no suffix that says what to write\n"
        "  hint:  FILE.html, FILE.json or FILE.speedscope.json\n"
    )


def test_record_and_report_of_one_run_by_their_twins(reporter):
    env = {"PYLAUNCH_RECORD": "r.txt", "PYLAUNCH_REPORT": "r.json"}
    assert reporter.run("main.py", env=env).err == ""
    assert "import on_thread" in (reporter.tree / "r.txt").read_text()
    assert named(json.loads((reporter.tree / "r.json").read_text()), "slow")


# ---------------------------------------------------------------------------------------------- speedscope


def check_speedscope(file: dict) -> None:
    """All that speedscope's src/lib/file-format-spec.ts demands, field by field, and no unknown field."""

    def fields(thing, required, optional=()):
        assert isinstance(thing, dict)
        assert set(required) <= set(thing) <= {*required, *optional}, sorted(thing)

    def is_number(value):
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    fields(file, ["$schema", "shared", "profiles"], ["name", "activeProfileIndex", "exporter"])
    assert file["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert isinstance(file["name"], str)
    assert re.fullmatch(r"pylaunch@\d+\.\d+\.\d+", file["exporter"])
    assert 0 <= file["activeProfileIndex"] < len(file["profiles"])
    fields(file["shared"], ["frames"])
    for frame in file["shared"]["frames"]:
        fields(frame, ["name"], ["file", "line", "col"])
        assert isinstance(frame["name"], str) and isinstance(frame.get("file", ""), str)
    for profile in file["profiles"]:
        fields(profile, ["type", "name", "unit", "startValue", "endValue", "events"])
        assert profile["type"] == "evented" and isinstance(profile["name"], str)
        units = ("none", "nanoseconds", "microseconds", "milliseconds", "seconds", "bytes")
        assert profile["unit"] in units
        assert is_number(profile["startValue"]) and is_number(profile["endValue"])
        assert profile["startValue"] <= profile["endValue"]
        last, stack = profile["startValue"], []
        for event in profile["events"]:
            fields(event, ["type", "at", "frame"])
            assert event["type"] in ("O", "C") and is_number(event["at"])
            assert 0 <= event["frame"] < len(file["shared"]["frames"])
            assert last <= event["at"] <= profile["endValue"], "not in the order of time"
            last = event["at"]
            if event["type"] == "O":
                stack.append(event["frame"])
            else:
                assert stack.pop() == event["frame"], "not balanced"
        assert not stack


def test_names_of_files_that_are_no_text_come_through(reporter):
    folder = reporter.tree.root / os.fsdecode(b'd\xff"\x01\\')
    folder.mkdir()
    (folder / "odd.py").write_text("")
    (folder / "main.py").write_text("import odd")
    data = reporter.json(f"{folder.name}/main.py")
    # As Python itself writes bytes that are no UTF-8 to a file (backslashreplace).
    shown = 'd\\udcff"\x01\\/'
    assert data["command"][-1] == f"{shown}main.py"
    assert named(data, "odd")["file"].endswith(f"/{shown}odd.py")


@pytest.mark.parametrize("journal", [b'{"threads": []}', b"PLJ1", b""])
def test_a_journal_of_another_version_is_told(lab, tmp_path, journal):
    lab.need_pylaunch()
    (tmp_path / "journal").write_bytes(journal)
    reporter = Path(lab.pylaunch).parent / "report/__main__.py"
    with open(tmp_path / "journal", "rb") as file:
        argv = [lab.python, "-I", "-S", "-B", reporter, str(file.fileno())]
        done = subprocess.run(argv, pass_fds=[file.fileno()], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("pylaunch: warning: nothing was recorded or reported: ")
    assert done.stderr.count("\n") == 1


def test_speedscope_s_schema_is_kept(reporter):
    file = json.loads(reporter.report(".speedscope.json"))
    check_speedscope(file)
    frames = [frame["name"] for frame in file["shared"]["frames"]]
    assert {"slow", "slow_inner", "absent (not found)", "broken (failed)"} <= set(frames)
    assert [p["name"] for p in file["profiles"]] == ["MainThread", "second <thread>"]


# ---------------------------------------------------------------------------------------------- the page


class Page(HTMLParser):
    """Collects what a page would fetch, and the figures in it."""

    def __init__(self, text: str):
        super().__init__()
        self.fetched: list[str] = []
        self.data = ""
        self._in_data = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.fetched += [v for k, v in attrs if k in ("src", "href", "srcset", "action", "data")]
        self._in_data = attributes.get("id") == "data"

    def handle_endtag(self, tag):
        self._in_data = False

    def handle_data(self, data):
        if self._in_data:
            self.data += data


def test_the_page_is_self_contained_and_has_the_figures(reporter):
    reporter.tree.write({"with <tag> & quote.py": PROGRAM})
    text = reporter.report(".html", "with <tag> & quote.py", "</script><b>", "@@DATA@@")
    page = Page(text)
    assert page.fetched == []
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|https?://", text)
    data = json.loads(page.data)
    assert data["command"][-2:] == ["</script><b>", "@@DATA@@"]
    assert "slow_inner" in data["columns"]["name"]
    assert len({len(column) for column in data["columns"].values()}) == 1
    assert "<title>Imports of pylaunch with &lt;tag&gt; &amp; quote.py" in text


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
# Uses the page as a person would, and leaves what it saw in the title.
USE_THE_PAGE = """
const seen = {};
const rows = () => [...document.querySelectorAll("#modules tr.row")].map((row) => row.cells[0].textContent);
const type = (text) => { $("search").value = text; $("search").dispatchEvent(new Event("input")); };
seen.all = $("count").textContent;
const header = [...document.querySelectorAll("#modules th button")].find((b) => b.textContent === "Total");
header.click();
seen.bySlowest = rows()[0] === nodes.reduce((a, b) => (b.total > a.total ? b : a)).name;
header.click();
seen.ascending = header.parentNode.getAttribute("aria-sort");
type("slow_");
seen.found = rows();
document.querySelector("#modules tr.row").click();
seen.crumbs = $("crumbs").textContent;
seen.boxes = boxes.filter((box) => !box.faded).map((box) => box.node.name);
document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
seen.afterEscape = zoomed.name;
type("");
zoom(null);
const place = canvas.getBoundingClientRect();
const box = boxes.find((b) => b.node.name === "slow");
canvas.dispatchEvent(new MouseEvent("click", { clientX: place.left + box.x + 1, clientY: place.top + box.depth * ROW + 3 }));
seen.clicked = zoomed.name;
$("metric").value = "memory";
$("metric").dispatchEvent(new Event("input"));
seen.byMemory = boxes.filter((b) => b.node.name === "pack.part")[0].width / $("flame").clientWidth;
$("thread").value = "1";
$("thread").dispatchEvent(new Event("input"));
seen.otherThread = boxes.map((b) => b.node.name);
$("archive").value = "hit";
$("archive").dispatchEvent(new Event("input"));
seen.hits = rows().length;
document.body.dataset.seen = JSON.stringify(seen);
"""


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_the_page_in_a_browser(reporter, tmp_path):
    path = tmp_path / "used.html"
    text = reporter.report(".html")
    path.write_text(text.replace("setUp();\n</script>", f"setUp();\n{USE_THE_PAGE}\n</script>"))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    seen = json.loads(found[1].replace("&quot;", '"').replace("&lt;", "<").replace("&amp;", "&"))
    count = re.fullmatch(r"(\d+) of \1", seen["all"])
    assert count and int(count[1]) > 10
    assert seen["bySlowest"] and seen["ascending"] == "ascending"
    assert seen["found"] == ["slow_inner"]
    assert seen["crumbs"].split(" \u203a ") == ["all imports", "slow", "slow_inner"]
    assert seen["boxes"] == ["slow_inner"] and seen["afterEscape"] == "slow"
    assert seen["clicked"] == "slow"
    assert seen["byMemory"] > 0.8
    assert seen["otherThread"] == ["all imports", "on_thread"]
    assert seen["hits"] == 0

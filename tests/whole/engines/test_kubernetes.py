"""examples/kubernetes-workers.yaml is valid for Kubernetes, and its pods do the study together."""

import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT, clean_environment, finish, start

sys.path.insert(0, str(ROOT / "tests"))
from engines_bench import Engine, environment
from imaged import PYTHON

MANIFEST = ROOT / "examples/kubernetes-workers.yaml"
VERSIONS = ("1.25", "1.31", "1.37")
pytestmark = [pytest.mark.full, pytest.mark.one_worker]


@pytest.fixture
def validate(lab):
    """Is a file valid for a version of Kubernetes? By its own schemas, which a package carries."""
    lab.need_pylaunch()
    build = lab.pylaunch.parent
    requirements = ("kubernetes-validate==1.37.0",)
    engine = Engine("kubernetes", "", "kubernetes", (), requirements)
    python = environment(engine, PYTHON, build, build / "engines") / "bin/python"

    def run(path, version: str) -> subprocess.CompletedProcess:
        argv = [python, "-m", "kubernetes_validate", "--strict", "-k", version, path]
        return subprocess.run(argv, capture_output=True, text=True)

    return run


@pytest.mark.parametrize("version", VERSIONS)
def test_the_manifest_is_valid(validate, tmp_path, version):
    done = validate(MANIFEST, version)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(MANIFEST.read_text().replace("completionMode:", "completionKind:"))
    assert validate(wrong, version).returncode != 0


def pod(index: int, values: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Command and environment of the pod's container, as the kubelet makes them of the manifest;
    `values`: those that come from elsewhere, and in place of what a container has by mounts."""
    job = yaml.safe_load(MANIFEST.read_text())["spec"]
    (container,) = job["template"]["spec"]["containers"]
    values = {"INDEX": str(index), **values}
    env = {x["name"]: values.get(x["name"], x.get("value")) for x in container["env"]}
    assert None not in env.values()
    words = [re.sub(r"\$\((\w+)\)", lambda x: env[x[1]], word) for word in container["command"]]
    return words, {**env, "JOB_COMPLETION_INDEX": str(index)}


def test_its_pods_do_the_study_together(lab, tmp_path):
    """Two of them, as processes of this host, each with a cache of its own."""
    lab.need_pylaunch()
    running = []
    for index in range(2):
        values = {
            "STORAGE": f"sqlite:///{tmp_path / 'study.db'}",
            "PYLAUNCH_CACHE": str(tmp_path / f"cache{index}"),
        }
        words, env = pod(index, values)
        words = [x.replace("/output", str(tmp_path)).replace("=200", "=6") for x in words]
        assert words[0] == "pylaunch"
        env = clean_environment(lab.home, PYLAUNCH_PYTHON=PYTHON, **env)
        running.append(start([lab.pylaunch, *words[1:], "--images=300"], env, ROOT))
    for index, process in enumerate(running):
        code, out, err = finish(process, timeout=300)
        assert code == 0 and b"[0] finished: 6 trials" in out, (out, err)
        assert (tmp_path / str(index) / "optimisation_history.png").exists()

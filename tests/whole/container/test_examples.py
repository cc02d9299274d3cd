"""examples/container: right in form, and its commands do in a container what it says they do."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from conftest import ROOT
from contained import Container, Root
from dockerfile_parse import DockerfileParser
from test_container import STRANGER, bare_root

pytestmark = pytest.mark.one_worker

EXAMPLES = ROOT / "examples/container"
HADOLINT = str(Path(sys.executable).with_name("hadolint"))
JOBS = {"study": "job.yaml", "openshift": "openshift-job.yaml"}  # By the stage that they run.


def lint(text: str) -> subprocess.CompletedProcess:
    return subprocess.run([HADOLINT, "--no-color", "-"], input=text, capture_output=True, text=True)


def test_the_dockerfile_has_no_fault_that_hadolint_knows():
    text = (EXAMPLES / "Dockerfile").read_text()
    assert lint(text).stdout == ""
    assert "DL3000" in lint(text.replace("WORKDIR /src", "WORKDIR src")).stdout


@pytest.mark.parametrize("name", JOBS.values())
def test_a_job_is_one_that_kubernetes_takes(name):
    text = (EXAMPLES / name).read_text()
    assert kubernetes_validate.validate(yaml.safe_load(text), "1.37", strict=True)
    misspelt = yaml.safe_load(text.replace("readOnlyRootFilesystem", "readonlyRootFilesystem"))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(misspelt, "1.37", strict=True)


@dataclass
class Stage:
    """What a Dockerfile's stage adds to the one it begins with."""

    base: Stage | None
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all_steps(self):
        return [*(self.base.all_steps() if self.base else []), *self.steps]


def stages() -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    text = (EXAMPLES / "Dockerfile").read_bytes()
    for step in DockerfileParser(fileobj=io.BytesIO(text)).structure:
        if step["instruction"] == "FROM":
            base, _, name = step["value"].split()
            found[name] = stage = Stage(found.get(base))
        elif step["instruction"] != "COMMENT":
            stage.steps.append((step["instruction"], step["value"]))
    return found


def build(root: Root, stage: Stage) -> tuple[Container, list[str]]:
    """Runs its commands; how what it makes is run, and the entry point."""
    container, entrypoint = Container(), []
    for what, value in stage.all_steps():
        if what == "ENV":
            env = {**container.env, **dict(x.split("=", 1) for x in value.split())}
            container = replace(container, env=env, home=env.get("HOME", container.home))
        elif what == "USER":
            container = replace(container, user=tuple(map(int, value.split(":"))))
        elif what == "WORKDIR":
            container = replace(container, cwd=value)
        elif what == "RUN":
            root.build(container, "sh", "-c", value)
        elif what == "ENTRYPOINT":
            entrypoint = json.loads(value)
        else:
            assert what == "COPY"
    return container, entrypoint


def as_the_cluster_runs_it(container: Container, name: str) -> tuple[Container, list[str]]:
    """With the rights and mounts of a Job; and the arguments."""
    pod = yaml.safe_load((EXAMPLES / name).read_text())["spec"]["template"]["spec"]
    (spec,) = pod["containers"]
    user = pod["securityContext"].get("runAsUser")
    rights = spec["securityContext"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    container = replace(
        container,
        user=STRANGER if user is None else (user, pod["securityContext"]["runAsGroup"]),
        read_only=rights["readOnlyRootFilesystem"],
        no_new_privileges=not rights["allowPrivilegeEscalation"],
        capabilities="",
        tmpfs={x["mountPath"]: "mode=1777" for x in spec["volumeMounts"]},
    )
    return container, spec["args"]


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_a_job_does_what_stock_does_and_is_warm(lab, tmp_path, name):
    """On another host than that of `docker build`."""
    root = bare_root(lab, tmp_path)
    container, entrypoint = build(root, stages()[name])
    container, arguments = as_the_cluster_runs_it(container, JOBS[name])
    elsewhere = root.copy(tmp_path / "elsewhere")
    time.sleep(2.2)  # What has just been written proves nothing.
    stock = elsewhere.run(container, "python3", entrypoint[-1], *arguments)
    assert stock.code == 41, stock
    for _ in range(2):
        assert elsewhere.run(container, *entrypoint, *arguments) == stock
    container = replace(container, env={**container.env, "PYLAUNCH_EXPLAIN": "1"})
    said = elsewhere.run(container, *entrypoint, *arguments).err
    assert "image: /opt/pylaunch/images/" in said, said

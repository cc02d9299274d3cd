"""ray_work.py KIND WHERE: Ray's tasks, actors or Tune's trials on a node of this program's own.

WHERE names their Python: `node` stands for the one that starts the node, a path for a runtime
environment's py_executable, with env_vars.
"""

import os
import sys
import tempfile
import time

import ray
import tell


def task(index):
    return index, tell.first_line()


class Actor:
    def work(self, index):
        return task(index)


def tasks() -> list:
    return ray.get([ray.remote(task).remote(i) for i in range(2)])


def actors() -> list:
    handles = [ray.remote(num_cpus=1)(Actor).remote() for _ in range(2)]
    return ray.get([handle.work.remote(i) for i, handle in enumerate(handles)])


class Earlier:
    def ready(self):
        return True


def later() -> list:
    """Actors of a node that has had others: with `import ray` preloaded, an image is one node's."""
    handles = [ray.remote(num_cpus=1)(Earlier).remote() for _ in range(2)]
    ray.get([handle.ready.remote() for handle in handles])
    for handle in handles:
        ray.kill(handle)
    time.sleep(10)  # In which an image is written.
    tell.submitted()
    return actors()


def trials() -> list:
    from ray import tune

    def trial(config):
        return {"loss": float(config["index"]), "told": task(config["index"])[1]}

    space = {"index": tune.grid_search([0, 1])}
    config = tune.RunConfig(storage_path=os.environ["RAY_TMPDIR"], verbose=0)
    results = tune.Tuner(trial, param_space=space, run_config=config).fit()
    return sorted((x.metrics["loss"], x.metrics["told"]) for x in results)


def runtime_env(python: str) -> dict:
    names = [x for x in os.environ if x.startswith("FOR_WORKERS_")]
    variables = {name.removeprefix("FOR_WORKERS_"): os.environ[name] for name in names}
    return {"py_executable": python, "env_vars": variables}


def main(kind: str, where: str) -> None:
    options = {}
    if where == "node":
        tell.for_workers()
    else:
        options["runtime_env"] = runtime_env(where)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=40, **options)
    if kind != "later":
        tell.submitted()
    print({"tasks": tasks, "actors": actors, "trials": trials, "later": later}[kind]())
    ray.shutdown()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        os.environ["RAY_TMPDIR"] = folder
        main(*sys.argv[1:])

# ruff: noqa: E501 - programs in strings read better on long lines.
"""First imports of real packages by several threads, in many fresh processes: how many fail, hang or crash.

    tests/programs/shield/real.py [--runs N] [--jobs N] [--python PYTHON] [--launch COMMAND] [--preload] [--list] [CASE ...]

COMMAND is what stands for `python`: nothing, for stock, or pylaunch and its options. --preload gives each case the entries
that a preload file for it would have: what its threads import, and the names that lazy modules resolve later. Prints a line a
case, exits with 1 if anything failed. A case whose package the interpreter lacks is left out, with a line that says so.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import os
import shlex
import subprocess
import sys
import tempfile

# Threads start together and each runs its own part; several rounds in a process are one process that fails or not.
HEAD = """
import sys, threading, traceback
failed = []
def together(*parts):
    barrier = threading.Barrier(len(parts))
    def run(part):
        barrier.wait()
        try:
            exec(part, {})
        except BaseException:
            failed.append(traceback.format_exc())
    threads = [threading.Thread(target=run, args=(part,)) for part in parts]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""
TAIL = """
if failed:
    print(failed[0], file=sys.stderr)
    sys.exit(1)
"""

LAZY = [
    "from transformers import AutoConfig, BertConfig",
    "from transformers import RobertaConfig, RobertaTokenizer",
    "from transformers import DebertaV2Config, DebertaV2Tokenizer",
    "from transformers import GPT2Config, GPT2Tokenizer",
    "from transformers import T5Config, AutoTokenizer",
    "from transformers import PretrainedConfig, PreTrainedTokenizerFast",
    "from transformers import BertTokenizerFast, ElectraConfig",
    "from transformers import DistilBertConfig, DistilBertTokenizer",
]
KINDS = ("Bert", "Roberta", "Electra", "DebertaV2")
TRIALS = [
    f"from transformers import AutoModel, {kind}Config\n"
    f"c = {kind}Config(vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)\n"
    f"m = AutoModel.from_config(c)\nassert type(m).__name__ == '{kind}Model'"
    for kind in KINDS
]

CASES = {
    "onnx": ("transformers", ["from transformers.onnx import OnnxConfig"] * 8),
    "lazy": ("transformers", LAZY),
    "trials": ("transformers", TRIALS),
    "torch": (
        "torch",
        [
            "import torch.nn.functional",
            "import torch.utils.data",
            "import torch.distributions",
            "import torch.optim.lr_scheduler",
        ],
    ),
    "pandas": (
        "pandas",
        [
            "import pandas.core.frame",
            "import pandas.io.parsers",
            "import pandas.tseries.offsets",
            "import pandas.api.types",
        ],
    ),
    "numpy": (
        "numpy",
        ["import numpy.random", "import numpy.linalg", "import numpy.fft", "import numpy.ma"],
    ),
    "optuna": (
        "optuna",
        [
            "import optuna.study",
            "import optuna.samplers",
            "import optuna.pruners",
            "import optuna.storages",
        ],
    ),
    "scipy": (
        "scipy",
        [
            "import scipy.stats",
            "import scipy.optimize",
            "import scipy.sparse.linalg",
            "import scipy.signal",
        ],
    ),
    "sklearn": (
        "sklearn",
        [
            "import sklearn.linear_model",
            "import sklearn.ensemble",
            "import sklearn.model_selection",
            "import sklearn.metrics",
        ],
    ),
}

# What the parts use without an import statement of their own.
LATE = {"trials": [f"from transformers import {kind}Model" for kind in KINDS]}


def preload_flags(name: str) -> list[str]:
    """--preload for every import statement of a case, each once.

    Optional where a tokenizer may be a placeholder for sentencepiece, which need not be installed.
    """
    lines = [line for part in CASES[name][1] for line in part.splitlines()]
    entries = [line for line in lines if line.startswith(("from ", "import "))]
    return [
        f"--preload={'optional ' if 'Tokenizer' in entry else ''}{entry}"
        for entry in dict.fromkeys([*entries, *LATE.get(name, [])])
    ]


def has(python: str, package: str) -> bool:
    find = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    return subprocess.run([python, "-c", find]).returncode == 0


def once(command: list[str], program: str, limit: float) -> str:
    """What one process came to: "" or the last line of what went wrong."""
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        try:
            code = subprocess.run(
                [*command, "-c", program], stdout=subprocess.DEVNULL, stderr=errors, timeout=limit
            ).returncode
        except subprocess.TimeoutExpired:
            return "hangs"
        errors.seek(0)
        lines = errors.read().strip().splitlines()
    if code == 0:
        return ""
    return f"signal {-code}" if code < 0 else (lines[-1] if lines else f"exit code {code}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--limit", type=float, default=120, help="seconds after which a process hangs"
    )
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--launch", default="", help="pylaunch and its options; default: stock")
    parser.add_argument(
        "--preload", action="store_true", help="with --launch: preload what each case imports"
    )
    parser.add_argument("--list", action="store_true")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    options = parser.parse_args()
    if options.preload and not options.launch:
        parser.error("--preload needs --launch: stock Python has no such option")
    if options.list:
        print("\n".join(CASES))
        return 0
    command = [options.python]
    if options.launch:
        command = [*shlex.split(options.launch), "--python", options.python]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    bad = 0
    for name in options.cases or CASES:
        package, parts = CASES[name]
        if not has(options.python, package):
            print(f"{name:8} left out: {options.python} has no {package}", flush=True)
            continue
        full_command = [*command, *(preload_flags(name) if options.preload else [])]
        program = HEAD + f"together(*{parts!r})" + TAIL
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            started = [
                pool.submit(once, full_command, program, options.limit) for _ in range(options.runs)
            ]
            ends = [process.result() for process in started]
        failures = collections.Counter(end[:90] for end in ends if end)
        bad += failures.total()
        told = "; ".join(f"{count}x {end}" for end, count in failures.most_common(3))
        print(f"{name:8} {failures.total()}/{options.runs} failed  {told}", flush=True)
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())

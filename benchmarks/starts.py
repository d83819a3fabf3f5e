"""How long a command and a training method take to start."""

from __future__ import annotations

import shutil
import sys

from benchmarks.bench import ENVIRONMENT, Bench, trainenv
from benchmarks.measuring import Case, Comparison, Contender, Moment

_ROUNDS = 30

_METHOD = f"""\
description: Writes one line, to time how long it takes to get there
conda_env: {ENVIRONMENT}
file: train.py
"""

_CODE = """\
import time

print(time.monotonic_ns(), flush=True)
"""


def run_case(bench: Bench) -> Case:
    """``trainenv run`` and its peers beside the interpreter that they start."""
    nothing = ("python", "-c", "pass")
    contenders = [
        Contender("trainenv run", (trainenv(), "run", "-n", ENVIRONMENT, *nothing)),
    ]
    missing = []
    for peer in ("micromamba", "conda"):
        if program := shutil.which(peer):
            contenders.append(Contender(f"{peer} run", (program, "run", "-p", str(bench.prefix), *nothing)))
        else:
            missing.append(f"{peer} run")
    contenders += [
        Contender("interpreter of trainenv itself", (sys.executable, "-c", "pass")),
        Contender("bare interpreter", (str(bench.prefix / "bin" / "python"), "-c", "pass")),
    ]
    return Case(
        "run",
        "Start a command: `run -n ENV python -c pass`, whole process",
        contenders,
        _ROUNDS,
        Comparison.DIFFERENCE,
        missing,
        "The start of the interpreter that trainenv itself runs in is part of what it adds.",
    )


def train_case(bench: Bench) -> Case:
    """From ``trainenv train`` to the first line of the method's code."""
    method = bench.machine_a / "methods" / "first_line"
    method.mkdir(parents=True, exist_ok=True)
    code = method / "train.py"
    code.write_text(_CODE)
    (method / "method.yaml").write_text(_METHOD)
    train = (trainenv(), "train", method.name)
    bare = (str(bench.prefix / "bin" / "python"), str(code))
    contenders = [
        Contender("trainenv train, until the code writes", train, Moment.LINE_RUN),
        Contender("trainenv train, until its line is shown", train, Moment.LINE_SHOWN),
        Contender("bare interpreter", bare, Moment.LINE_SHOWN),
    ]
    return Case(
        "train",
        "Start a training method: from `train METHOD` to the first line of its code",
        contenders,
        _ROUNDS,
        Comparison.DIFFERENCE,
        note="CPU time and memory are those of the command, without the detached process that stays with the task.",
    )

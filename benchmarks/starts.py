"""How long a command and a training method take to start."""

from __future__ import annotations

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
        if program := bench.peers.get(peer):
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
    (method / "MLproject").write_text("name: first_line\nentry_points:\n  main:\n    command: python train.py\n")
    train = (trainenv(), "train", method.name)
    bare = (str(bench.prefix / "bin" / "python"), str(code))
    contenders = [
        Contender("trainenv train, until the code writes", train, Moment.LINE_RUN),
        Contender("trainenv train, until its line is shown", train, Moment.LINE_SHOWN),
    ]
    missing = []
    own_path = f"PATH={bench.prefix / 'bin'}:{bench.variables.get('PATH', '')}"
    for peer, name, command in (
        ("mlflow", "mlflow run --env-manager local", ("run", "--env-manager", "local", str(method))),
        ("conda", "conda run", ("run", "-p", str(bench.prefix), "python", str(code))),
    ):
        if program := bench.peers.get(peer):
            start = ("env", own_path) if peer == "mlflow" else ()
            contenders.append(Contender(f"{name}, until the code writes", (*start, program, *command), Moment.LINE_RUN))
        else:
            missing.append(name)
    contenders.append(Contender("bare interpreter", bare, Moment.LINE_SHOWN))
    return Case(
        "train",
        "Start a training method: from `train METHOD` to the first line of its code",
        contenders,
        _ROUNDS,
        Comparison.DIFFERENCE,
        missing,
        note="CPU time and memory are those of the command, without the detached process that stays with the task.",
    )

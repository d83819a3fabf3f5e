"""How long an environment takes to build when all its packages are in the cache."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from benchmarks.bench import PYTHON, Bench, settle, trainenv
from benchmarks.measuring import Case, Comparison, Contender

_ROUNDS = 10
_NAME = "created"


def create_case(bench: Bench) -> Case:
    """``trainenv create`` of a Python-only environment, and its peers from the very same channel."""
    channel = (bench.machine_a / "cache" / "host").as_uri()
    prefix = bench.machine_a / "envs" / _NAME
    contenders = [
        Contender(
            "trainenv create",
            (trainenv(), "create", "-n", _NAME, "-c", "host", "-y", f"python={PYTHON}"),
            prepare=partial(_remove, bench, prefix),
            check=partial(_starts, bench, prefix),
        )
    ]
    missing = []
    for peer in ("micromamba", "conda"):
        if program := shutil.which(peer):
            target = bench.folder / f"{peer}-created"
            contenders.append(
                Contender(
                    f"{peer} create",
                    (program, "create", "-yqp", str(target), "--override-channels", "-c", channel, f"python={PYTHON}"),
                    prepare=partial(_remove, bench, target),
                    check=partial(_starts, bench, target),
                )
            )
        else:
            missing.append(f"{peer} create")
    return Case(
        "create",
        f"Create an environment with Python {PYTHON}, pip and setuptools from the host channel, packages cached",
        contenders,
        _ROUNDS,
        Comparison.RATIO,
        missing,
    )


def _remove(bench: Bench, prefix: Path) -> None:
    if prefix.parent == bench.machine_a / "envs" and prefix.exists():
        bench.run(trainenv(), "env", "remove", "-n", prefix.name, "-y")
    elif prefix.exists():
        shutil.rmtree(prefix)
    settle()


def _starts(bench: Bench, prefix: Path) -> None:
    bench.run(str(prefix / "bin" / "python"), "-c", "import ssl, pip")

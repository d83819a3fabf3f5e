"""How long an environment takes to build and to change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.bench import PYTHON, Bench, settle, trainenv
from benchmarks.measuring import Case, Comparison, Contender

_ROUNDS = 10
_NAME = "created"


def create_case(bench: Bench) -> Case:
    """``trainenv create`` of a Python-only environment, and its peers from the very same channel."""
    return _create("create", "all packages cached", bench, [])


def create_cold_case(bench: Bench) -> Case:
    """The same with an empty package cache: each reads the channel, extracts and links."""
    emptied = [bench.machine_a / "cache" / name for name in ("pkgs", "checked", "repodata", "solved")]
    emptied += [bench.folder / "conda-packages", bench.folder / "mamba" / "pkgs"]
    return _create("create-cold", "no package cached, the channel a folder of this machine", bench, emptied)


def _create(name: str, state: str, bench: Bench, emptied: list[Path]) -> Case:
    channel = (bench.machine_a / "cache" / "host").as_uri()
    prefix = bench.machine_a / "envs" / _NAME
    contenders = [
        Contender(
            "trainenv create",
            (trainenv(), "create", "-n", _NAME, "-c", "host", "-y", f"python={PYTHON}"),
            prepare=partial(_remove, bench, prefix, emptied),
            check=partial(_starts, bench, prefix, "ssl, pip"),
        )
    ]
    missing = []
    for peer, more in (("micromamba", ()), ("micromamba", ("--no-pyc",)), ("conda", ())):
        title = " ".join((f"{peer} create", *more))
        if program := bench.peers.get(peer):
            target = bench.folder / f"{peer}-created"
            wanted = ("--override-channels", "-c", channel, f"python={PYTHON}")
            contenders.append(
                Contender(
                    title,
                    (program, "create", "-yqp", str(target), *more, *wanted),
                    prepare=partial(_remove, bench, target, emptied),
                    check=partial(_starts, bench, target, "ssl, pip"),
                )
            )
        elif not more:
            missing.append(title)
    return Case(
        name,
        f"Create an environment with Python {PYTHON}, pip and setuptools from the host channel, {state}",
        contenders,
        _ROUNDS,
        Comparison.RATIO,
        missing,
        "conda and micromamba compile pip and setuptools to .pyc, unless told --no-pyc; trainenv leaves it to Python.",
    )


def install_case(bench: Bench) -> Case:
    """The measured environment's requirements into a Python that has none of them, by trainenv and by pip."""
    own, its = bench.machine_a / "envs" / "installed", bench.machine_a / "envs" / "pip-installed"
    wanted = ("-r", str(bench.folder / "requirements.txt"))
    return Case(
        "install",
        f"Install {', '.join(bench.requirements)} and what they need from PyPI, files cached",
        [
            Contender(
                "trainenv pip install",
                (trainenv(), "pip", "install", "-n", own.name, *wanted),
                prepare=_anew(bench, own),
                check=partial(_starts, bench, own, "numpy"),
            ),
            Contender(
                "pip install",
                (str(its / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted),
                prepare=_anew(bench, its),
                check=partial(_starts, bench, its, "numpy"),
            ),
        ],
        5,
        Comparison.RATIO,
        note="pip changes the environment in place; trainenv changes a copy by hard links, locks it and swaps it in.",
    )


def _anew(bench: Bench, prefix: Path) -> Callable[[], None]:
    def make() -> None:
        _remove(bench, prefix, [])
        bench.run(trainenv(), "create", "-n", prefix.name, "-c", "host", "-y", f"python={PYTHON}")
        settle()

    return make


def _remove(bench: Bench, prefix: Path, emptied: list[Path]) -> None:
    if prefix.parent == bench.machine_a / "envs" and prefix.exists():
        bench.run(trainenv(), "env", "remove", "-n", prefix.name, "-y")
    elif prefix.exists():
        shutil.rmtree(prefix)
    for folder in emptied:
        shutil.rmtree(folder, ignore_errors=True)
    settle()


def _starts(bench: Bench, prefix: Path, modules: str) -> None:
    bench.run(str(prefix / "bin" / "python"), "-c", f"import {modules}")

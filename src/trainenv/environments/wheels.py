"""The PyPI half of an environment: resolve with uv to a ``pylock.toml``, install what it says.

What is installed already, by conda or from PyPI, is preferred as it is, so adding one package
moves no other without need.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainenv.channels.pypi import run_uv, uv_options
from trainenv.environments.records import NOTES_DIR, Distribution, distributions
from trainenv.environments.specification import Specification
from trainenv.errors import InstallError, SolveError
from trainenv.progress import Reporter, Step
from trainenv.settings import parse_toml

PYLOCK = f"{NOTES_DIR}/pylock.toml"


@dataclass(frozen=True)
class LockedWheel:
    """One PyPI package of a lock: ``location`` is a URL or a path, ``sha256`` may be unknown."""

    name: str
    version: str
    location: str
    sha256: str | None


def resolve(
    prefix: Path,
    specification: Specification,
    kept: Sequence[Distribution],
    *,
    cache_dir: Path,
    keep_open: tuple[int, ...],
) -> None:
    """Write the ``pylock.toml`` of ``prefix`` that meets the specification and keeps ``kept`` working.

    Raises ``SolveError`` with who asks for what when nothing does.
    """
    pylock = prefix / PYLOCK
    pylock.parent.mkdir(parents=True, exist_ok=True)
    _write_preferences(pylock, distributions(prefix))
    lines = [*specification.requirements, *(_requirement(distribution) for distribution in kept)]
    arguments = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--format", "pylock.toml"]
    arguments += ["--output-file", str(pylock), "--python", _interpreter(prefix), *uv_options()]
    arguments += ["-", *(str(file) for file in specification.requirement_files)]
    code, output = run_uv(
        arguments,
        cache_dir=cache_dir,
        folder=specification.folder,
        standard_input="\n".join(lines) + "\n",
        keep_open=keep_open,
    )
    if code != 0:
        raise _solve_error(output, specification)


def install(prefix: Path, *, folder: Path, cache_dir: Path, keep_open: tuple[int, ...], reporter: Reporter) -> None:
    """Install what the ``pylock.toml`` of ``prefix`` says, every file checked against its sha256."""
    total = len(locked(prefix))
    arguments = [
        "pip",
        "install",
        "-r",
        str(prefix / PYLOCK),
        "--python",
        _interpreter(prefix),
        *uv_options(),
    ]
    with reporter.step("PyPI packages", total=total, unit="packages") as step:
        code, output = run_uv(
            arguments,
            cache_dir=cache_dir,
            folder=folder,
            keep_open=keep_open,
            on_line=lambda line: _show(step, line),
        )
    if code != 0:
        if "No space left" in output or "os error 28" in output:
            raise InstallError(f"no space left on the disk of {prefix.parent}", hint="Free some; nothing was changed")
        raise InstallError(
            "the PyPI packages could not be installed",
            cause=_cause(output),
            hint="Nothing was changed",
        )


def locked(prefix: Path) -> list[LockedWheel]:
    """What the ``pylock.toml`` of ``prefix`` holds, by name; empty where there is none."""
    try:
        content = parse_toml((prefix / PYLOCK).read_text())
    except FileNotFoundError:
        return []
    found = []
    for package in content.get("packages", []):
        source = _source(package)
        found.append(
            LockedWheel(
                str(package["name"]),
                str(package.get("version", "0")),
                str(source.get("url") or source.get("path") or ""),
                (source.get("hashes") or {}).get("sha256"),
            )
        )
    return sorted(found, key=lambda wheel: wheel.name)


def _source(package: dict[str, Any]) -> dict[str, Any]:
    """The one thing that gets installed: the wheel, else the archive, sdist, folder or checkout."""
    if wheels := package.get("wheels"):
        return dict(wheels[0])
    for kind in ("archive", "sdist", "vcs", "directory"):
        if kind in package:
            return dict(package[kind])
    return {}


def _write_preferences(pylock: Path, installed: Sequence[Distribution]) -> None:
    """uv prefers the versions that stand in the output file already."""
    lines = ['lock-version = "1.0"', 'created-by = "trainenv"', ""]
    for distribution in installed:
        lines += ["[[packages]]", f'name = "{distribution.key}"', f'version = "{distribution.version}"', ""]
    pylock.write_text("\n".join(lines))


def _requirement(distribution: Distribution) -> str:
    origin = distribution.direct_url
    if origin is None:
        return distribution.key
    url = str(origin.get("url", ""))
    if (origin.get("dir_info") or {}).get("editable"):
        return f"-e {url}"
    if vcs := origin.get("vcs_info"):
        return f"{distribution.key} @ {vcs.get('vcs', 'git')}+{url}@{vcs.get('commit_id', '')}"
    return f"{distribution.key} @ {url}"


def _interpreter(prefix: Path) -> str:
    return str(prefix / "bin" / "python")


def _show(step: Step, line: str) -> None:
    if match := re.match(r"(Downloading|Building|Built) (\S+)(?: \(([^)]+)\))?", line):
        step.detail(f"{match[1].lower()} {match[2]} {match[3] or ''}".strip())
    elif re.match(r"\+ \S+==", line):
        step.advance()


def _solve_error(output: str, specification: Specification) -> SolveError | InstallError:
    text = _cause(output)
    asked = ", ".join([str(file) for file in specification.requirement_files]) or "the pip requirements"
    if re.search(r"error sending request|Failed to fetch|dns error|Connection refused|timed out", output):
        return InstallError(
            "the package index can't be reached",
            cause=text,
            hint="Check the network and pip's settings (`pip config list`); trainenv uses the same",
        )
    return SolveError(f"{asked} can't be satisfied", cause=text, hint="Change the requirement, or the Python version")


def _cause(output: str) -> str:
    """The reasons in uv's message, without its decoration and its hints about uv's own options."""
    text = output.split("\nhint:", 1)[0]
    text = re.sub(r"[╰├│─▶→×]+", " ", text)
    text = re.sub(r"^\s*(error|cause|Caused by):?\s*", " ", text, flags=re.MULTILINE)
    text = re.sub(r"No solution found when resolving dependencies:?", " ", text)
    return " ".join(text.split())

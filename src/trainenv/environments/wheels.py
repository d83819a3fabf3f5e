"""The PyPI half of an environment: resolve with uv to a ``pylock.toml``, install what it says.

What is installed already, by conda or from PyPI, is preferred as it is, so adding one package
moves no other without need.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from trainenv.channels.pypi import constraint_options, run_uv, uv_options
from trainenv.credentials import without_credentials
from trainenv.environments.records import NOTES_DIR, Distribution, distributions
from trainenv.environments.specification import Specification, required_hashes
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
    sources: Sequence[str],
    cache_dir: Path,
    keep_open: tuple[int, ...],
) -> None:
    """Write the ``pylock.toml`` of ``prefix`` that meets the specification and keeps ``kept`` working.

    ``sources`` are lines of earlier requirements that say where ``kept`` came from. Raises
    ``SolveError`` with who asks for what when nothing does, or when a file has another hash than the
    requirements allow.
    """
    pylock = prefix / PYLOCK
    pylock.parent.mkdir(parents=True, exist_ok=True)
    installed = distributions(prefix)
    _write_preferences(pylock, installed)
    lines = [*sources, *specification.requirements, *filter(None, map(_requirement, kept))]
    arguments = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--format", "pylock.toml"]
    arguments += ["--output-file", str(pylock), "--python", _interpreter(prefix), *uv_options(), *constraint_options()]
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
    text = pylock.read_text(encoding="utf-8")
    # uv counts from where the file is now, and that is not where it will be.
    pylock.write_text(_RELATIVE_PATH.sub(lambda match: _absolute(match, pylock.parent), text), encoding="utf-8")
    _check_hashes(specification, locked(prefix), installed)


_RELATIVE_PATH = re.compile(r'\bpath = "((?:[^"\\/]|\\.)(?:[^"\\]|\\.)*)"')


def _absolute(match: re.Match[str], folder: Path) -> str:
    path = json.loads(f'"{match[1]}"')
    return f"path = {json.dumps(os.path.normpath(folder / path), ensure_ascii=False)}"


def _check_hashes(
    specification: Specification, wheels: Sequence[LockedWheel], installed: Sequence[Distribution]
) -> None:
    """As pip does: where one requirement has a hash, all that is installed must have one that fits."""
    allowed, required = required_hashes(specification)
    if not required:
        return
    there = {(distribution.key, distribution.version) for distribution in installed}
    for wheel in wheels:
        if (wheel.name, wheel.version) in there or wheel.sha256 in allowed.get(wheel.name, ()):
            continue
        raise SolveError(
            f"{wheel.name} {wheel.version} has not the hash that the requirements ask for",
            cause=f"{wheel.location.rpartition('/')[2]} has sha256 {wheel.sha256 or 'unknown'}, "
            + ("another one" if wheel.name in allowed else "none")
            + " is listed",
            hint="Somebody changed the file, or the requirements lack a package: lock them again, or take --hash out",
        )


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
    lock = prefix / PYLOCK
    lock.write_text(without_credentials(lock.read_text(encoding="utf-8")), encoding="utf-8")
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


def built_here(prefix: Path) -> set[str]:
    """The PyPI packages of the ``pylock.toml`` of ``prefix`` that came as source, not ready made."""
    return {wheel.name for wheel in locked(prefix) if not urlsplit(wheel.location).path.endswith(".whl")}


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


def _requirement(distribution: Distribution) -> str | None:
    """What keeps an installed distribution in the solution; None for one whose source is gone."""
    origin = distribution.direct_url
    if origin is None:
        return distribution.key
    url = str(origin.get("url", ""))
    if url.startswith("file:") and not os.path.exists(unquote(urlsplit(url).path)):
        return None
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
    if refused := re.search(r"\((401 Unauthorized|403 Forbidden)\)", output):
        return InstallError(
            "the package index refuses us",
            cause=f"HTTP status {refused[1]}",
            hint="Give it a user and password: in index-url of pip's settings, or in ~/.netrc",
        )
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

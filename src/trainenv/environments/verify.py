"""Does an environment hold what its records say, no foreign prefix, and an interpreter that runs?"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainenv import locks, relocation
from trainenv.environments.activation import environ
from trainenv.environments.build import ENVIRONMENT_NOTE
from trainenv.environments.environment import Environment
from trainenv.environments.records import (
    CondaRecord,
    Distribution,
    canonical_name,
    conda_records,
    distributions,
    pypi_distributions,
    read_note,
)
from trainenv.environments.relocated import NOTE, carried_prefix
from trainenv.progress import Reporter, Step

_START_SECONDS = 60
_NOT_MODULES = {"tests", "test", "docs", "doc", "examples", "benchmarks", "scripts", "bin"}


@dataclass
class Verification:
    """What ``verify`` found.

    ``files`` were compared with their hash. ``problems`` are lines for a user; none means that all
    holds. ``imported`` are the modules that the interpreter could import.
    """

    files: int = 0
    problems: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, "files": self.files, "imported": self.imported, "problems": self.problems}


def verify(
    environment: Environment, reporter: Reporter, *, old_prefixes: Sequence[str] = (), imports: bool = True
) -> Verification:
    """Check every recorded file, look for prefixes that must be gone, start the interpreter.

    ``old_prefixes`` are prefixes that no file may hold. With ``imports`` the interpreter imports
    what the requirements named.
    """
    prefix = environment.prefix
    found = Verification()
    records = conda_records(prefix)
    pypi = pypi_distributions(prefix, records)
    expected = list(_expected(prefix, records, pypi))
    with reporter.step("check files", total=len(expected), unit="files") as step:
        for item in expected:
            _check(prefix, item, found, step)
    with reporter.step("look for old prefixes"):
        banned = [relocation.PLACEHOLDER, str(prefix.parent / locks.STATE_DIR / "staging"), *old_prefixes]
        for path, held in relocation.leftovers(prefix, banned):
            found.problems.append(f"{path} holds the prefix {held}")
    if (prefix / "bin" / "python").exists():
        with reporter.step("start the interpreter"):
            modules = _requested_modules(prefix) if imports else []
            _start(environment, modules, found)
    return found


@dataclass(frozen=True)
class _Expected:
    """One recorded file. ``sha256`` is hexadecimal, None where the record has none.

    ``canonical`` are the occurrences by which to undo the prefix before hashing.
    """

    path: str
    owner: str
    is_link: bool
    sha256: str | None
    canonical: relocation.Occurrences | None = None


def _expected(prefix: Path, records: list[CondaRecord], pypi: list[Distribution]) -> Iterator[_Expected]:
    relocated = read_note(prefix, NOTE).get("files", {})

    def item(path: str, owner: str, is_link: bool, digest: str | None) -> _Expected:
        note = relocated.get(path)
        if note is None:
            return _Expected(path, owner, is_link, digest)
        return _Expected(path, owner, False, note["sha256"], relocation.Occurrences.from_json(note))

    for record in records:
        entries = {entry["_path"]: entry for entry in record.paths}
        for path in record.files:
            entry = entries.get(path, {})
            digest = entry.get("sha256_in_prefix")
            if digest is None and not entry.get("prefix_placeholder"):
                digest = entry.get("sha256")
            yield item(path, record.name, entry.get("path_type") == "softlink", digest)
    for distribution in pypi:
        for path, digest, _ in distribution.record():
            if not path.endswith(".pyc"):
                yield item(path, distribution.key, False, _hexadecimal(digest))


def _hexadecimal(digest: str) -> str | None:
    """RECORD writes ``sha256=`` and URL-safe base64 without padding."""
    kind, _, value = digest.partition("=")
    if kind != "sha256":
        return None
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
    except ValueError:
        return "unreadable"


def _check(prefix: Path, item: _Expected, found: Verification, step: Step) -> None:
    step.advance()
    file = prefix / item.path
    try:
        status = file.lstat()
    except OSError:
        found.problems.append(f"{item.path} of {item.owner} is missing")
        return
    if stat.S_ISLNK(status.st_mode) and not file.exists():
        found.problems.append(f"{item.path} of {item.owner} is a link to nothing")
        return
    if item.is_link or item.sha256 is None:
        return
    found.files += 1
    try:
        holds = _digest(prefix, file, item) == item.sha256
    except OSError as error:
        found.problems.append(f"{item.path} of {item.owner} can't be read: {error.strerror}")
        return
    if not holds:
        found.problems.append(f"{item.path} of {item.owner} was changed: its sha256 differs from the record")


def _digest(prefix: Path, file: Path, item: _Expected) -> str:
    if item.canonical is None:
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    held = carried_prefix(prefix) or str(prefix)
    occurrences = relocation.shifted(item.canonical, relocation.PLACEHOLDER, held)
    try:
        content, _ = relocation.rewrite(
            file.read_bytes(), occurrences, held, relocation.PLACEHOLDER, item.path, portable=True
        )
    except (ValueError, IndexError, relocation.MismatchError, relocation.NoRoomError):
        return ""
    return hashlib.sha256(content).hexdigest()


def _requested_modules(prefix: Path) -> list[str]:
    """The top-level modules of the PyPI packages that the requirements named."""
    requested = {canonical_name(name) for name in read_note(prefix, ENVIRONMENT_NOTE).get("requested", [])}
    modules: list[str] = []
    for distribution in distributions(prefix):
        if distribution.key in requested:
            modules += _modules(distribution)
    return modules


def _modules(distribution: Distribution) -> list[str]:
    site = os.path.dirname(distribution.folder)
    found = set()
    for path, _, _ in distribution.record():
        relative = os.path.relpath(path, site)
        first, _, rest = relative.partition("/")
        if rest == "__init__.py" or (not rest and first.endswith((".py", ".so"))):
            name = first.split(".")[0]
            if name.isidentifier() and not name.startswith("_") and name not in _NOT_MODULES:
                found.add(name)
    return sorted(found)


_START = """
import importlib, json, sys
result = {"prefix": sys.prefix, "failed": {}}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        result["failed"][name] = type(error).__name__ + ": " + str(error)
sys.stdout.write("\\n" + json.dumps(result))
"""


def _start(environment: Environment, modules: list[str], found: Verification) -> None:
    python = environment.prefix / "bin" / "python"
    try:
        done = subprocess.run(
            [str(python), "-I", "-B", "-c", _START, *modules],
            env=environ(environment.prefix, environment.name, os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_START_SECONDS + 10 * len(modules),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        found.problems.append(f"bin/python does not start: {error}")
        return
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        found.problems.append(f"bin/python does not start or import {', '.join(modules) or 'anything'}: {last}")
        return
    result = json.loads(done.stdout.rpartition("\n")[2])
    if os.path.realpath(result["prefix"]) != os.path.realpath(environment.prefix):
        found.problems.append(f"bin/python believes that its prefix is {result['prefix']}")
    for name, reason in result["failed"].items():
        found.problems.append(f"module {name} can't be imported: {reason}")
    found.imported = [name for name in modules if name not in result["failed"]]

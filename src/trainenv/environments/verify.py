"""Does an environment hold what its records say, no foreign prefix, and an interpreter that runs?"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainenv import locks, relocation
from trainenv.environments import libraries, mounts
from trainenv.environments.activation import environ
from trainenv.environments.contents import Inspection, inspect
from trainenv.environments.earlier import requested_keys
from trainenv.environments.environment import Environment
from trainenv.environments.records import ENVIRONMENT_NOTE, Distribution, distributions, read_note
from trainenv.environments.relocated import carried_prefix
from trainenv.progress import Reporter

_START_SECONDS = 60
_NOT_MODULES = {"tests", "test", "docs", "doc", "examples", "benchmarks", "scripts", "bin"}


@dataclass
class Verification:
    """What ``verify`` found.

    ``files`` were compared with their hash. ``problems`` are lines for a user; none means that all
    holds. ``notes`` are worth knowing and no failure, ``unknown`` the files that no package brought.
    ``imported`` are the modules that the interpreter could import.
    """

    files: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "files": self.files,
            "imported": self.imported,
            "problems": self.problems,
            "notes": self.notes,
            "unknown": self.unknown,
        }


def verify(
    environment: Environment,
    reporter: Reporter,
    *,
    old_prefixes: Sequence[str] = (),
    imports: bool = True,
    proven: Set[str] = frozenset(),
) -> Verification:
    """Check every file against its record, look for prefixes that must be gone, for libraries, start the interpreter.

    ``old_prefixes`` are prefixes that no file may hold. With ``imports`` the interpreter imports
    what the requirements named. The files ``proven``, which an environment that works here shares, are not read again,
    and modules that have no others not imported.
    """
    prefix = environment.prefix
    with reporter.step("check files", unit="files") as step:
        inspection = inspect(prefix, banned=forbidden_prefixes(prefix, old_prefixes), step=step, proven=proven)
    if (image := mounts.image_folder(prefix)) is not None:
        inspection.leftovers = [each for each in inspection.leftovers if not _is_of_image(image, *each)]
    found = Verification(inspection.files, problems_of(inspection), unknown=inspection.unknown)
    carried = carried_prefix(prefix)
    for missing in libraries.missing(prefix, inspection.elf, inspection.present, [carried] if carried else []):
        (found.notes if missing.why_bearable else found.problems).append(str(missing))
    if carried not in (None, str(prefix)):
        found.notes.append(f"the files carry the prefix {carried}, where another machine or container sees them")
    if os.path.lexists(prefix / "bin" / "python"):
        with reporter.step("start the interpreter"):
            modules = _requested_modules(prefix, proven) if imports else []
            _start(environment, modules, found)
    return found


def _is_of_image(image: Path, path: str, held: str) -> bool:
    """Whether a file holds the placeholder as it was packed, because nobody needs another prefix in it."""
    return held == relocation.PLACEHOLDER and not (image.parent / "relocated" / path).exists()


def forbidden_prefixes(prefix: Path, old_prefixes: Sequence[str] = ()) -> list[str]:
    """What no file of the environment at ``prefix`` may hold: what packing and making it work with."""
    return [relocation.PLACEHOLDER, str(prefix.parent / locks.STATE_DIR / "staging"), *old_prefixes]


def problems_of(inspection: Inspection) -> list[str]:
    """What an inspection found, as lines for a user."""
    lines = [str(damage) for damage in inspection.damage]
    return lines + [f"{path} holds the prefix {held}" for path, held in sorted(inspection.leftovers)]


def _requested_modules(prefix: Path, proven: Set[str]) -> list[str]:
    """The top-level modules of the PyPI packages that the requirements named, if they have files not ``proven``."""
    requested = requested_keys(read_note(prefix, ENVIRONMENT_NOTE))
    modules: list[str] = []
    for distribution in distributions(prefix):
        if distribution.key in requested:
            modules += _modules(distribution, proven)
    return modules


def _modules(distribution: Distribution, proven: Set[str]) -> list[str]:
    site = os.path.dirname(distribution.folder)
    found, new = set(), set()
    for path, _, _ in distribution.record():
        relative = os.path.relpath(path, site)
        first, _, rest = relative.partition("/")
        name = first.split(".")[0]
        if path not in proven and not path.endswith(".pyc"):
            new.add(name)
        is_module = rest == "__init__.py" or (not rest and first.endswith((".py", ".so")))
        if is_module and name.isidentifier() and not name.startswith("_") and name not in _NOT_MODULES:
            found.add(name)
    return sorted(found & new)


_START = """
import importlib, json, os, sys
result = {"prefix": os.fsencode(sys.prefix).decode("utf-8", "replace"), "failed": {}}
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

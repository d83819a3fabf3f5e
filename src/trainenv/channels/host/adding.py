"""Putting interpreters into the host channel by hand, before an environment asks for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from trainenv.channels.host.channel import package_all
from trainenv.channels.host.interpreters import Interpreter, base_of, find_interpreters, remember
from trainenv.errors import InterpreterError, UsageError
from trainenv.progress import Reporter


def add(cache_dir: Path, python: str | None, reporter: Reporter) -> Interpreter:
    """Package one interpreter: that at a path, the best of a version, or the best of all (None).

    A path is remembered, so that later solves find it too. Raises ``InterpreterError`` with the reason
    if it can't be packaged.
    """
    if python is not None and (os.sep in python or Path(python).is_file()):
        executable = Path(python).expanduser().absolute()
        if not executable.is_file() or not os.access(executable, os.X_OK):
            raise UsageError(f"{executable} is not a program", hint="Give the path of a python")
        chosen = base_of(cache_dir, executable)
    else:
        chosen = _best(cache_dir, python).executable
    (outcome,) = package_all(cache_dir, reporter, lambda one: one.executable == chosen, also=[chosen])
    if outcome.unusable is not None:
        raise InterpreterError(
            f"{chosen} can't become a package", cause=outcome.unusable, hint="`trainenv doctor` shows which can"
        )
    if outcome.source == "added":
        remember(cache_dir, chosen)
    return outcome


def add_all(cache_dir: Path, reporter: Reporter) -> list[Interpreter]:
    """Package every interpreter that can be; one that can't has its reason in ``unusable``."""
    return package_all(cache_dir, reporter, lambda one: True)


def _best(cache_dir: Path, version: str | None) -> Interpreter:
    suits = _matcher(version)
    found = find_interpreters(cache_dir)
    for one in found:
        if one.unusable is None and suits(one.version):
            return one
    usable = ", ".join(str(one) for one in found if one.unusable is None)
    raise InterpreterError(
        f"this machine has no usable Python {version or ''}".rstrip(),
        cause=f"there are {usable}" if usable else "",
        hint="Give the path of a python",
    )


def _matcher(version: str | None) -> Callable[[str], bool]:
    if version is None:
        return lambda found: True
    from rattler import Version, VersionSpec
    from rattler.exceptions import InvalidVersionSpecError

    try:
        wanted = VersionSpec(version if version[:1] in "<>=!~" or "*" in version else f"{version}.*")
    except InvalidVersionSpecError:
        raise UsageError(f"{version!r} is neither a version nor a path", hint="Write it as 3.11") from None
    return lambda found: wanted.matches(Version(found))

"""The PyPI half of an environment: install what its ``pylock.toml`` says, and remove, with uv."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from trainenv.channels.access import Access
from trainenv.channels.pypi import private_lock, run_uv, uv_options
from trainenv.environments import wheel_health
from trainenv.environments.given import AllGiven, of_prefix
from trainenv.environments.locked import LockedWheel
from trainenv.environments.lockfiles.pylock import OWN as PYLOCK
from trainenv.environments.lockfiles.pylock import read_own
from trainenv.environments.records import Distribution, canonical_name, distributions
from trainenv.environments.wheel_errors import cause, install_error
from trainenv.environments.wheel_progress import WheelProgress
from trainenv.errors import DiskFullError, InstallError
from trainenv.progress import Reporter

_Outcome = tuple[int, str]
"""An exit code of uv, and its standard error."""


def install(
    prefix: Path,
    *,
    folder: Path,
    cache_dir: Path,
    keep_open: tuple[int, ...],
    reporter: Reporter,
    access: Access,
    options: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> None:
    """Install what the ``pylock.toml`` of ``prefix`` says, every file checked against its sha256.

    ``options`` and ``variables`` are uv's, on the platform where that is not this machine as it is, and on how and
    with what to build.
    """
    installed = {(each.key, each.version) for each in distributions(prefix)}
    new = [wheel for wheel in locked(prefix) if (wheel.name, wheel.version) not in installed]
    remote = {wheel.name for wheel in new if not wheel.location.startswith("file:")}
    with (
        reporter.step("PyPI packages", unit="B") as step,
        private_lock(prefix / PYLOCK, access) as (pylock, descriptors),
    ):
        arguments = ["pip", "install", "-r", str(pylock), *interpreter(prefix), *options, *uv_options(folder)]
        progress = WheelProgress(step, {wheel.name: wheel.size or 0 for wheel in new}, remote)

        def run(*more: str, on_line: Callable[[str], None], own: Mapping[str, str] | None = variables) -> _Outcome:
            return run_uv(
                [*arguments, *more],
                cache_dir=cache_dir,
                folder=folder,
                keep_open=(*keep_open, *descriptors),
                on_line=on_line,
                access=access,
                own_variables=own,
            )

        code, output = 1, ""
        if not any(wheel.is_source for wheel in new):
            # Of each file of a lock uv asks the server anew, also where the cache has it, with its hash.
            code, output = run(on_line=progress.hear_linked, own={**(variables or {}), "UV_OFFLINE": "1"})
        if code != 0 and not _began_to_link(output):
            code, output = run(on_line=progress.hear)
        if code == 0 and (names := _poisoned(prefix, output, cache_dir)):
            reporter.notice(f"{', '.join(names)} was damaged in uv's cache: it is fetched again")
            run_uv(["cache", "clean", *names], cache_dir=cache_dir, access=access)
            again = [word for name in names for word in ("--reinstall-package", name)]
            code, output = run(*again, on_line=progress.hear)
            if code == 0:
                wheel_health.accept(_just_installed(prefix, output), cache_dir)
        progress.finish()
    if code != 0:
        if _is_full(output):
            raise DiskFullError(
                "no space left for the PyPI packages",
                cause=f"the disk of {prefix.parents[3]} or of {cache_dir} is full",
                hint="Free some (`trainenv clean` helps); nothing was changed",
            )
        raise install_error(output, access)


def _began_to_link(output: str) -> bool:
    """Whether uv failed with files in the prefix, which it takes for a whole package the next time."""
    return "Failed to install" in output or _is_full(output)


def _is_full(output: str) -> bool:
    return "No space left" in output or "os error 28" in output


def uninstall(prefix: Path, names: Sequence[str], *, cache_dir: Path, keep_open: tuple[int, ...]) -> None:
    """Take PyPI packages out of ``prefix``. Raises ``InstallError``."""
    arguments = ["pip", "uninstall", *interpreter(prefix), *names]
    code, output = run_uv(arguments, cache_dir=cache_dir, keep_open=keep_open)
    left = [found.key for found in distributions(prefix) if found.key in names]
    if code != 0 or left:
        raise InstallError(
            f"{', '.join(left or names)} can't be removed", cause=cause(output), hint="Nothing was changed"
        )


def unmet(prefix: Path, *, cache_dir: Path) -> list[str]:
    """What the installed packages of ``prefix`` need and have not, one sentence each."""
    code, output = run_uv(["pip", "check", *interpreter(prefix)], cache_dir=cache_dir)
    if code == 0:
        return []
    sentences = re.findall(r"^The package (\S+ requires .+)$", output, re.MULTILINE)
    # uv sees no package without metadata.
    there = of_prefix(prefix)
    return [sentence.replace("`", "") for sentence in sentences if not _is_brought(sentence, there)]


def _is_brought(sentence: str, there: AllGiven) -> bool:
    missing = re.search(r"requires `([A-Za-z0-9][\w.-]*).*not installed", sentence)
    return missing is not None and canonical_name(missing[1]) in there


def _just_installed(prefix: Path, output: str) -> list[Distribution]:
    """The distributions that uv says it has put into ``prefix``."""
    names = {canonical_name(name) for name in re.findall(r"^ \+ (\S+?)(?:==| @ )", output, re.MULTILINE)}
    return [distribution for distribution in distributions(prefix) if distribution.key in names]


def _poisoned(prefix: Path, output: str, cache_dir: Path) -> list[str]:
    """Names of the distributions that uv has linked just now from a cache that is not sound."""
    return [found.key for found in wheel_health.damaged(_just_installed(prefix, output), cache_dir)]


def locked(prefix: Path) -> list[LockedWheel]:
    """What the ``pylock.toml`` of ``prefix`` holds, by name; empty where there is none."""
    return sorted(read_own(prefix), key=lambda wheel: wheel.name)


def built_here(prefix: Path) -> set[str]:
    """The PyPI packages of the ``pylock.toml`` of ``prefix`` that came as source, not ready made."""
    return {wheel.name for wheel in locked(prefix) if not urlsplit(wheel.location).path.endswith(".whl")}


def interpreter(prefix: Path) -> list[str]:
    """uv's option that names the Python of ``prefix``."""
    return ["--python", str(prefix / "bin" / "python")]

"""The PyPI half of an environment: resolve with uv to a ``pylock.toml``, install what it says.

What is installed already, by conda or from PyPI, is preferred as it is, so adding one package
moves no other without need.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from trainenv.channels.access import Access
from trainenv.channels.pypi import constraint_options, private_lock, run_uv, uv_options
from trainenv.credentials import without_credentials
from trainenv.environments import wheel_health
from trainenv.environments.earlier import names, tell_apart
from trainenv.environments.given import AllGiven, constraints, of_distributions, of_prefix, write_wheels
from trainenv.environments.locked import LockedWheel, file_url, is_prerelease, same_version
from trainenv.environments.lockfiles.pylock import OWN as PYLOCK
from trainenv.environments.lockfiles.pylock import read_own, replaced
from trainenv.environments.records import Distribution, canonical_name, distributions
from trainenv.environments.requirement_lines import for_uv
from trainenv.environments.requirement_lines import uv_options as requirement_options
from trainenv.environments.specification import Specification, addresses, named_requirements, required_hashes
from trainenv.environments.wheel_errors import cause, indexes_of, install_error, keyring_helps, refused, solve_error
from trainenv.environments.wheel_progress import WheelProgress
from trainenv.errors import DiskFullError, InstallError, SolveError, TrainenvError
from trainenv.progress import Reporter

if TYPE_CHECKING:
    from packaging.requirements import Requirement


def resolve(
    into: Path,
    specification: Specification,
    kept: Sequence[Distribution],
    *,
    preferred: Mapping[str, str],
    given: AllGiven,
    python: Sequence[str],
    earlier: Sequence[Requirement],
    sources: Sequence[str],
    cache_dir: Path,
    keep_open: tuple[int, ...],
    access: Access,
) -> None:
    """Write the ``pylock.toml`` of prefix ``into`` that meets the specification and keeps ``kept`` working.

    ``preferred`` are the versions, by canonical name, to choose where they fit. ``given`` is what conda
    brings: the lock leaves it out, except what must have another version. ``python`` are uv's options
    that say for which interpreter, see ``interpreter``. ``earlier`` are earlier requirements that still
    hold, ``sources`` lines that say where ``kept`` came from. What is kept need not be on an index any more.
    Raises ``SolveError`` with who asks for what when nothing does, or when a file has another hash than the
    requirements allow.
    """
    pylock = into / PYLOCK
    pylock.parent.mkdir(parents=True, exist_ok=True)
    asked_anew = {canonical_name(each.name): each for each in named_requirements(specification)}
    kept = [each for each in kept if not _gives_way(each, asked_anew.get(each.key), preferred)]
    as_they_are = {*preferred, *(key for key, each in asked_anew.items() if each.specifier)}
    noted = {wheel.name: wheel for wheel in read_own(kept[0].prefix) if wheel.is_exact} if kept else {}
    preferences = {**{key: item.version for key, item in given.items()}, **preferred}
    for address in addresses(specification):
        access.credentials.learn_index(address)
    asked = for_uv(specification.requirements)
    lines = [*(line.text for line in asked), *_found(sources)]
    lines += [*map(str, earlier), *filter(None, (_requirement(each, each.key in as_they_are) for each in kept))]
    arguments = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--format", "pylock.toml"]
    arguments += ["--output-file", str(pylock), *python, *uv_options(specification.folder), *constraint_options()]
    arguments += [*requirement_options(specification.requirements), "-", *map(str, specification.projects)]
    for extra in specification.extras:
        arguments += ["--extra", extra]
    for file, name in specification.groups:
        arguments += ["--group", f"{file}:{name}"]

    def compile_with(options: Sequence[str]) -> str | None:
        code, output = run_uv(
            [*arguments, *options],
            cache_dir=cache_dir,
            folder=specification.folder,
            standard_input="\n".join(lines) + "\n",
            keep_open=keep_open,
            access=access,
        )
        return None if code == 0 else output

    by_url = {canonical_name(each.name) for each in named_requirements(specification) if each.url}
    given = {key: item for key, item in given.items() if key not in by_url}

    def work_out() -> str | None:
        _write_preferences(pylock, preferences)
        failure = _compile_beside(given, compile_with, into, cache_dir)
        moved = [each for each in kept if failure is None and _is_moved(each, locked(into), preferred)]
        if not moved and (failure is None or "No solution found" not in failure):
            return failure
        solved = pylock.read_bytes() if failure is None else None
        offered = write_wheels(of_distributions(kept), cache_dir)
        _write_preferences(pylock, preferences)
        failure = _compile_beside(
            given, lambda options: compile_with([*options, "--find-links", str(offered)]), into, cache_dir
        )
        if failure is None:
            text = replaced(pylock.read_text(encoding="utf-8"), file_url(offered), noted)
            pylock.write_text(text, encoding="utf-8")
        elif solved is not None:
            pylock.write_bytes(solved)
            return None
        return failure

    failure = work_out()
    if failure is not None:
        indexes = indexes_of(specification, sources)
        refusals = refused(failure, indexes, access)
        if keyring_helps(refusals, access):
            failure = work_out()
            refusals = refused(failure, indexes, access) if failure is not None else []
    if failure is not None:
        error = solve_error(failure, specification, asked, refusals)
        before = {canonical_name(each.name) for each in earlier}
        tell_apart(error, before, {each.key for each in kept} - before - names(specification))
        error.details += tuple(_held_by_place(error, kept))
        if "--exclude-newer" in python and isinstance(error, SolveError):
            error.hint = "--exclude-newer leaves out what is newer, and what has no date: give a later day, or none"
        raise error
    text = without_credentials(pylock.read_text(encoding="utf-8"))
    # uv counts from where the file is now, and that is not where it will be.
    pylock.write_text(_RELATIVE_PATH.sub(lambda match: _absolute(match, pylock.parent), text), encoding="utf-8")
    _check_hashes(specification, locked(into), preferred)


def _gives_way(installed: Distribution, asked: Requirement | None, preferred: Mapping[str, str]) -> bool:
    """Whether a package that came from an address or a folder is asked for from an index now, in another version."""
    if asked is None or asked.url or installed.direct_url is None:
        return False
    return installed.key not in preferred or not asked.specifier.contains(installed.version, prereleases=True)


def _held_by_place(error: TrainenvError, kept: Sequence[Distribution]) -> list[str]:
    """The packages in ``error`` that stay as they are because they came from an address or a folder."""
    said = " ".join(error.details)
    return [
        f"{each.key} {each.version} is installed from {each.direct_url.get('url')}"
        for each in kept
        if each.direct_url and re.search(rf"(?<![\w.-]){re.escape(each.key)}(?![\w.-])", said)
    ]


def _found(sources: Sequence[str]) -> list[str]:
    """``sources`` without the folders of wheels that are gone."""
    places = [(line, line.removeprefix("--find-links ")) for line in sources]
    return [line for line, place in places if line == place or "://" in place or os.path.exists(place)]


def _is_moved(kept: Distribution, chosen: Sequence[LockedWheel], preferred: Mapping[str, str]) -> bool:
    """Whether another version than that of ``kept`` was chosen, perhaps because no index has it any more.

    A newer one of what is not ``preferred`` as it is was wanted.
    """
    from packaging.version import InvalidVersion, Version

    version = next((wheel.version for wheel in chosen if wheel.name == kept.key and not wheel.direct), kept.version)
    if same_version(version, kept.version):
        return False
    try:
        return kept.key in preferred or Version(version) < Version(kept.version)
    except InvalidVersion:
        return False


def _compile_beside(
    given: AllGiven, compile_with: Callable[[Sequence[str]], str | None], into: Path, cache_dir: Path
) -> str | None:
    """Let ``compile_with``, which takes options of uv and returns what uv says when it fails, find a solution.

    Where ``given`` can't all stay, one without it tells which of it has to go, and the rest stays.
    """
    if not given:
        return compile_with(())
    folder = write_wheels(given, cache_dir)

    def beside(pinned: AllGiven) -> str | None:
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in constraints(pinned, folder)))
            file.flush()
            return compile_with(["--constraint", file.name, *_left_out(pinned)])

    failure = beside(given)
    if failure is None or not re.search(r"No solution found|conflicting URLs", failure):
        return failure
    offered = ["--find-links", str(folder)]
    if (failure := compile_with(offered)) is not None:
        return failure
    chosen = {wheel.name: wheel for wheel in locked(into)}
    staying = {
        key: item
        for key, item in given.items()
        if key not in chosen or (not chosen[key].direct and same_version(chosen[key].version, item.version))
    }
    if beside(staying) is None:
        return None
    return compile_with([*offered, *_left_out(staying)])


def _left_out(given: AllGiven) -> list[str]:
    """uv's options that leave ``given`` out of the lock."""
    return [option for key in given for option in ("--no-emit-package", key)]


_RELATIVE_PATH = re.compile(r'\bpath = "((?:[^"\\/]|\\.)(?:[^"\\]|\\.)*)"')


def _absolute(match: re.Match[str], folder: Path) -> str:
    path = json.loads(f'"{match[1]}"')
    return f"path = {json.dumps(os.path.normpath(folder / path), ensure_ascii=False)}"


def _check_hashes(specification: Specification, wheels: Sequence[LockedWheel], installed: Mapping[str, str]) -> None:
    """As pip does: where one requirement has a hash, all that is installed must have one that fits."""
    allowed, required = required_hashes(specification)
    if not required:
        return
    for wheel in wheels:
        if installed.get(wheel.name) == wheel.version or wheel.sha256 in allowed.get(wheel.name, ()):
            continue
        raise SolveError(
            f"{wheel.name} {wheel.version} has not the hash that the requirements ask for",
            cause=f"{wheel.location.rpartition('/')[2]} has sha256 {wheel.sha256 or 'unknown'}, "
            + ("another one is listed" if wheel.name in allowed else "no sha256 of it is listed"),
            hint="Somebody changed the file, or the requirements lack a package: lock them again, or take --hash out",
        )


def install(
    prefix: Path,
    *,
    folder: Path,
    cache_dir: Path,
    keep_open: tuple[int, ...],
    reporter: Reporter,
    access: Access,
    options: Sequence[str] = (),
) -> None:
    """Install what the ``pylock.toml`` of ``prefix`` says, every file checked against its sha256.

    ``options`` are uv's, on the platform where that is not this machine as it is, and on how and with what to build.
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
        code, output = run_uv(
            arguments,
            cache_dir=cache_dir,
            folder=folder,
            keep_open=(*keep_open, *descriptors),
            on_line=progress.hear,
            access=access,
        )
        if code == 0 and (names := _poisoned(prefix, output, cache_dir)):
            reporter.notice(f"{', '.join(names)} was damaged in uv's cache: it is fetched again")
            run_uv(["cache", "clean", *names], cache_dir=cache_dir, access=access)
            code, output = run_uv(
                [*arguments, *(option for name in names for option in ("--reinstall-package", name))],
                cache_dir=cache_dir,
                folder=folder,
                keep_open=(*keep_open, *descriptors),
                access=access,
            )
            if code == 0:
                wheel_health.accept(_just_installed(prefix, output), cache_dir)
        progress.finish()
    if code != 0:
        if "No space left" in output or "os error 28" in output:
            raise DiskFullError(
                "no space left for the PyPI packages",
                cause=f"the disk of {prefix.parents[3]} or of {cache_dir} is full",
                hint="Free some (`trainenv clean` helps); nothing was changed",
            )
        raise install_error(output, access)


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


def _write_preferences(pylock: Path, preferred: Mapping[str, str]) -> None:
    """uv prefers the versions that stand in the output file already."""
    lines = ['lock-version = "1.0"', 'created-by = "trainenv"', "" if preferred else "packages = []"]
    for name, version in preferred.items():
        lines += ["[[packages]]", f'name = "{name}"', f'version = "{version}"', ""]
    pylock.write_text("\n".join(lines))


def _requirement(distribution: Distribution, preferred: bool) -> str | None:
    """What keeps an installed distribution in the solution; None for one whose source is gone.

    One that is not ``preferred`` as it is may become newer, but not older.
    """
    origin = distribution.direct_url
    if origin is None:
        if not preferred:
            return f"{distribution.key}>={distribution.version.partition('+')[0]}"
        # uv takes a version before its release only where one is asked for.
        return f"{distribution.key}>=0.dev0" if is_prerelease(distribution.version) else distribution.key
    url = str(origin.get("url", ""))
    if url.startswith("file:") and not os.path.exists(unquote(urlsplit(url).path)):
        return None
    if (origin.get("dir_info") or {}).get("editable"):
        return f"-e {url}"
    if vcs := origin.get("vcs_info"):
        return f"{distribution.key} @ {vcs.get('vcs', 'git')}+{url}@{vcs.get('commit_id', '')}"
    return f"{distribution.key} @ {url}"


def interpreter(prefix: Path) -> list[str]:
    """uv's option that names the Python of ``prefix``."""
    return ["--python", str(prefix / "bin" / "python")]

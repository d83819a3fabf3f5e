"""The PyPI half of an environment, resolved by uv to a ``pylock.toml``.

What is installed already, by conda or from PyPI, is preferred as it is, so adding one package
moves no other without need, and an update takes none back.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from trainenv.channels.access import Access
from trainenv.channels.pypi import constraint_options, run_uv, uv_options
from trainenv.credentials import without_credentials
from trainenv.environments.earlier import names, tell_apart
from trainenv.environments.given import AllGiven, constraints, of_distributions, write_wheels
from trainenv.environments.locked import LockedWheel, file_url, is_prerelease, same_version
from trainenv.environments.lockfiles.pylock import OWN as PYLOCK
from trainenv.environments.lockfiles.pylock import read_own, replaced
from trainenv.environments.records import Distribution, canonical_name
from trainenv.environments.requirement_lines import for_uv, uv_variables
from trainenv.environments.requirement_lines import uv_options as requirement_options
from trainenv.environments.specification import Specification, addresses, named_requirements, required_hashes
from trainenv.environments.wheel_errors import indexes_of, keyring_helps, refused, solve_error, warnings
from trainenv.environments.wheels import locked
from trainenv.errors import SolveError, TrainenvError
from trainenv.progress import Reporter

if TYPE_CHECKING:
    from packaging.requirements import Requirement


@dataclass(frozen=True)
class Resolution:
    """What to resolve, and how.

    ``kept`` are the installed PyPI packages, which go on working; they need not be on an index any more.
    ``preferred`` are the versions, by canonical name, to choose where they fit. ``given`` is what conda
    brings: the lock leaves it out, except what must have another version. ``python`` are uv's options
    that say for which interpreter, see ``wheels.interpreter``. ``earlier`` are earlier requirements that still
    hold, ``sources`` lines that say where ``kept`` came from.
    """

    specification: Specification
    kept: Sequence[Distribution]
    preferred: Mapping[str, str]
    given: AllGiven
    python: Sequence[str]
    earlier: Sequence[Requirement]
    sources: Sequence[str]
    cache_dir: Path
    keep_open: tuple[int, ...]
    access: Access
    reporter: Reporter
    _warnings: list[str] = field(default_factory=list, init=False)

    def write(self, into: Path) -> None:
        """Write the ``pylock.toml`` of prefix ``into``.

        Raises ``SolveError`` with who asks for what when nothing fits, or when a file has another hash than the
        requirements allow.
        """
        pylock = into / PYLOCK
        pylock.parent.mkdir(parents=True, exist_ok=True)
        for address in addresses(self.specification):
            self.access.credentials.learn_index(address)
        failure = self._work_out(into)
        if failure is not None:
            indexes = indexes_of(self.specification, self.sources)
            refusals = refused(failure, indexes, self.access)
            if keyring_helps(refusals, self.access):
                failure = self._work_out(into)
                refusals = refused(failure, indexes, self.access) if failure is not None else []
            if failure is not None:
                asked = for_uv(self.specification.requirements)
                raise self._explained(solve_error(failure, self.specification, asked, refusals))
        text = without_credentials(pylock.read_text(encoding="utf-8"))
        # uv counts from where the file is now, and that is not where it will be.
        pylock.write_text(_RELATIVE_PATH.sub(lambda match: _absolute(match, pylock.parent), text), encoding="utf-8")
        _check_hashes(self.specification, locked(into), self.preferred)
        for line in self._warnings:
            self.reporter.notice(line)

    def _work_out(self, into: Path) -> str | None:
        """Let uv find a solution; returns what uv says when it fails.

        If it fails, or moves what nobody asked to move, the reason may be that an index has it no more. Then
        what is installed is offered as wheels.
        """
        pylock = into / PYLOCK
        noted = {wheel.name: wheel for each in self._staying[:1] for wheel in read_own(each.prefix) if wheel.is_exact}
        self._write_preferences(pylock)
        failure = self._compile_beside(into)
        chosen = {wheel.name: wheel.version for wheel in (locked(into) if failure is None else ()) if not wheel.direct}
        is_moved = any(_is_moved(each, chosen, self.preferred) for each in self._staying)
        if self._passes_over_new or not (is_moved or (failure and "No solution found" in failure)):
            return failure
        solved = pylock.read_bytes() if failure is None else None
        offered = write_wheels(of_distributions(self._staying), self.cache_dir)
        self._write_preferences(pylock)
        failure = self._compile_beside(into, "--find-links", str(offered))
        if failure is None:
            text = replaced(pylock.read_text(encoding="utf-8"), file_url(offered), noted)
            pylock.write_text(text, encoding="utf-8")
        elif solved is not None:
            pylock.write_bytes(solved)
            return None
        return failure

    @property
    def _passes_over_new(self) -> bool:
        """Whether what is newer than a day is left out, also where it is installed."""
        return "--exclude-newer" in self.python

    @cached_property
    def _asked_anew(self) -> dict[str, Requirement]:
        return {canonical_name(each.name): each for each in named_requirements(self.specification)}

    @cached_property
    def _staying(self) -> list[Distribution]:
        return [each for each in self.kept if not _gives_way(each, self._asked_anew.get(each.key), self.preferred)]

    def _write_preferences(self, pylock: Path) -> None:
        """uv prefers the versions that stand in the output file already."""
        preferred = {**{key: item.version for key, item in self.given.items()}, **self.preferred}
        lines = ['lock-version = "1.0"', 'created-by = "trainenv"', "" if preferred else "packages = []"]
        for name, version in preferred.items():
            lines += ["[[packages]]", f'name = "{name}"', f'version = "{version}"', ""]
        pylock.write_text("\n".join(lines))

    def _compile_beside(self, into: Path, *options: str) -> str | None:
        """``_compile`` beside what conda gives.

        Where that can't all stay, one without it tells which of it has to go, and the rest stays.
        """
        given = {key: item for key, item in self.given.items() if not self._is_by_place(key)}
        if not given:
            return self._compile(into, *options)
        folder = write_wheels(given, self.cache_dir)

        def beside(pinned: AllGiven) -> str | None:
            with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in constraints(pinned, folder)))
                file.flush()
                return self._compile(into, *options, "--constraint", file.name, *_left_out(pinned))

        failure = beside(given)
        if failure is None or not re.search(r"No solution found|conflicting URLs", failure):
            return failure
        offered = [*options, "--find-links", str(folder)]
        if (failure := self._compile(into, *offered)) is not None:
            return failure
        chosen = {wheel.name: wheel for wheel in locked(into)}
        staying = {
            key: item
            for key, item in given.items()
            if key not in chosen or (not chosen[key].direct and same_version(chosen[key].version, item.version))
        }
        if beside(staying) is None:
            return None
        return self._compile(into, *offered, *_left_out(staying))

    def _is_by_place(self, key: str) -> bool:
        return key in self._asked_anew and bool(self._asked_anew[key].url)

    def _compile(self, into: Path, *options: str) -> str | None:
        """Run uv; returns what it says when it fails."""
        wanted = self.specification
        arguments = ["pip", "compile", "--no-header", "--no-annotate", "--format", "pylock.toml"]
        arguments += ["--output-file", str(into / PYLOCK), *self.python, *uv_options(wanted.folder)]
        arguments += [*constraint_options(), *requirement_options(wanted.requirements)]
        arguments += ["-", *map(str, wanted.projects)]
        arguments += [word for extra in wanted.extras for word in ("--extra", extra)]
        arguments += [word for file, name in wanted.groups for word in ("--group", f"{file}:{name}")]
        code, output = run_uv(
            [*arguments, *options],
            cache_dir=self.cache_dir,
            folder=wanted.folder,
            standard_input="".join(f"{line}\n" for line in self._lines()),
            keep_open=self.keep_open,
            access=self.access,
            own_variables=uv_variables(wanted.requirements),
        )
        self._warnings[:] = warnings(output)
        return None if code == 0 else output

    def _lines(self) -> list[str]:
        """What uv reads: new requirements, which come first, earlier ones, and what is installed."""
        may_go_back = {key for key, each in self._asked_anew.items() if each.specifier}
        lines = [*(line.text for line in for_uv(self.specification.requirements)), *_found(self.sources)]
        lines += map(str, self.earlier)
        for each in self._staying:
            is_held = each.key in self.preferred or each.key in may_go_back or self._passes_over_new
            lines += filter(None, [_requirement(each, is_held)])
        return lines

    def _explained(self, error: TrainenvError) -> TrainenvError:
        """``error`` with what was asked for earlier, and what is installed, told apart from what is asked for now."""
        before = {canonical_name(each.name) for each in self.earlier}
        tell_apart(error, before, {each.key for each in self._staying} - before - names(self.specification))
        error.details += tuple(_held_by_place(error, self._staying))
        if self._passes_over_new and isinstance(error, SolveError):
            error.hint = "--exclude-newer leaves out what is newer, and what has no date: give a later day, or none"
        return error


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


def _is_moved(kept: Distribution, chosen: Mapping[str, str], preferred: Mapping[str, str]) -> bool:
    """Whether another version than that of ``kept`` was chosen, perhaps because no index has it any more.

    ``chosen`` are versions by name. A newer one of what is not ``preferred`` as it is was wanted.
    """
    from packaging.version import InvalidVersion, Version

    version = chosen.get(kept.key, kept.version)
    if same_version(version, kept.version):
        return False
    try:
        return kept.key in preferred or Version(version) < Version(kept.version)
    except InvalidVersion:
        return False


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


def _requirement(distribution: Distribution, is_held: bool) -> str | None:
    """What keeps an installed distribution in the solution; None for one whose source is gone.

    One that is not ``is_held`` by something else may become newer, but not older.
    """
    origin = distribution.direct_url
    if origin is None:
        if not is_held:
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

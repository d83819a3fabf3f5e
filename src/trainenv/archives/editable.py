"""Projects that an environment uses where they lie: they have to come along, or the archive is of no use.

They are found by what leads to them: ``direct_url.json`` of what was installed with ``-e``, ``.egg-link``
files, and folders named in ``.pth`` files. The environment itself is left as it is: what an archive
holds instead is written to a scratch folder, or read from the project.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from trainenv.archives import links
from trainenv.archives.checks import check_link
from trainenv.archives.inventory import Inventory, source_of
from trainenv.environments import left_out
from trainenv.environments.records import (
    ENVIRONMENT_NOTE,
    NOTES_DIR,
    Distribution,
    canonical_name,
    distributions,
    note_text,
    pypi_distributions,
    read_note,
    site_packages,
)
from trainenv.errors import ArchiveError
from trainenv.progress import Reporter
from trainenv.relocation import find, relocate_tree, rewrite
from trainenv.relocation.search import holds
from trainenv.settings import Settings
from trainenv.sizes import human_size

Editable = Literal["refuse", "include", "wheel"]

PROJECTS = "src"
"""The folder of the prefix that the projects come to lie in: pip's own place for checkouts."""

_MADE_MTIME = 315532800
_NOTES = tuple(f"{NOTES_DIR}/{name}" for name in ("environment.json", "pixi.lock", "pylock.toml"))
_LONGEST = 1 << 20
_NOT_CODE = frozenset(
    (
        *(".bzr", ".git", ".hg", ".svn", ".nox", ".tox", ".eggs", "__pycache__", "node_modules"),
        *(".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
    )
)
_FOREIGN_FOLDERS = ("pyvenv.cfg", "conda-meta", "CACHEDIR.TAG")
_CODE = (".py", ".so", ".pyi")


@dataclass(frozen=True)
class Project:
    """A project in ``folder``. ``leading`` are the files of the prefix that lead there, and hold its path.

    ``distribution`` is what was installed of it; None for a mere line in a ``.pth`` file.
    """

    name: str
    folder: str
    leading: tuple[str, ...]
    distribution: Distribution | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.folder})"


def projects(prefix: Path, found: Inventory) -> list[Project]:
    """The projects outside of ``prefix`` that its Python imports from."""
    roots = {os.fspath(prefix), os.path.realpath(prefix)}
    made: list[Project] = []
    for each in pypi_distributions(prefix):
        origin = each.direct_url or {}
        if not (origin.get("dir_info") or {}).get("editable"):
            continue
        folder = os.path.normpath(unquote(urlsplit(str(origin.get("url", ""))).path))
        if not _is_below(folder, roots):
            leading = [path for path, _, _ in each.record() if not path.endswith(".pyc")]
            made.append(Project(each.key, folder, _holding(prefix, leading, folder), each))
    for site in site_packages(prefix):
        listed = sorted(path for path in found.files if os.path.dirname(path) == site)
        for path in listed:
            if path.endswith(".egg-link") and (link := _egg_link(prefix / path)) and not _is_below(link, roots):
                name = canonical_name(os.path.basename(path).removesuffix(".egg-link"))
                others = [other for other in found.files if other.startswith("bin/") or other in listed]
                made.append(Project(name, link, _holding(prefix, others, link)))
        for path in listed:
            if not path.endswith(".pth"):
                continue
            for folder in _folders_of_pth(prefix / path):
                known = [project for project in made if _is_below(folder, {project.folder})]
                if not known and not _is_below(folder, roots):
                    name = re.sub(r"[^\w.-]+", "_", os.path.basename(folder)) or "project"
                    made.append(Project(name, folder, (path,)))
                elif known and path not in known[0].leading:
                    made[made.index(known[0])] = replace(known[0], leading=(*known[0].leading, path))
    return made


def refused(prefix: Path, present: Sequence[Project]) -> ArchiveError:
    """The error for who has not said what shall become of the projects."""
    return ArchiveError(
        f"{prefix} can't be packed as it is",
        cause=f"it uses projects that lie outside of it: {', '.join(map(str, present))}",
        hint="`--editable include` packs their folders as well, `--editable wheel` installs them in the archive",
    )


def included(
    prefix: Path, carried: str, found: Inventory, present: Sequence[Project], scratch: Path, reporter: Reporter
) -> Inventory:
    """``found`` with the folders of the projects in it, and with what leads there leading into the prefix."""
    places, targets = dict(found.places), dict(found.targets)
    files, folders, linked = set(found.files), set(found.folders), set(found.links)
    moves: list[tuple[str, str]] = []
    for project in present:
        if any(path.endswith("_editable_loader.py") for path in project.leading):
            raise ArchiveError(
                f"{project} can't be included",
                cause="importing it builds it anew, with the compiler and paths of this machine",
                hint="`--editable wheel` builds it once",
            )
        inside = _free(f"{PROJECTS}/{project.name}", folders)
        moves += [(folder, f"{carried}/{inside}") for folder in _spellings(project.folder)]
        count, size = 0, 0
        for path, place in _walked(project.folder, reporter):
            member = f"{inside}/{path}"
            if os.path.islink(place):
                targets[member] = os.readlink(place)
                linked.add(member)
            else:
                places[member] = place
                size += os.path.getsize(place)
            files.add(member)
            folders.update(_parents(member))
            count += 1
        folders.update((PROJECTS, inside))
        reporter.notice(f"{project} comes along as {inside}: {count} files, {human_size(size)}")
    for path in {*_NOTES, *(path for project in present for path in project.leading)}:
        if path in files and path not in linked and (text := _moved(prefix / path, path, moves)) is not None:
            places[path] = str(_written(scratch / path, text, prefix / path))
            files -= _compiled(path, files)
    found = replace(found, places=places, targets=targets, links=frozenset(linked))
    return found.with_files(files, folders)


def as_wheels(
    prefix: Path, carried: str, found: Inventory, present: Sequence[Project], scratch: Path, settings: Settings
) -> Inventory:
    """``found`` with the projects built and installed in it, as if they had never been editable."""
    tree = scratch / "installed"
    named = sorted({project.folder for project in present if _is_buildable(project)})
    if odd := [project for project in present if project.folder not in named]:
        raise ArchiveError(
            f"no wheel can be built of {', '.join(map(str, odd))}",
            cause="it has neither a pyproject.toml nor a setup.py",
            hint="`--editable include` packs the folder itself",
        )
    _install(prefix, named, tree, settings)
    relocate_tree(tree, os.fspath(prefix), carried)
    gone: set[str] = set()
    texts: dict[str, bytes] = {}
    for project in present:
        own = {path for path, _, _ in project.distribution.record()} if project.distribution else set()
        gone |= own
        for path in set(project.leading) - own:
            if path.endswith(".pth"):
                texts[path] = _without(texts.get(path) or (prefix / path).read_bytes(), project.folder)
            else:
                gone.add(path)
    installed = distributions(tree)
    made = {path for each in installed for path, _, _ in each.record() if (tree / path).is_file()}
    places = {**found.places, **{path: str(tree / path) for path in made}}
    for path, text in texts.items():
        places[path] = str(_written(scratch / path, text, prefix / path))
    if (note := _settled(prefix, named)) is not None:
        places[_NOTES[0]] = str(_written(scratch / _NOTES[0], note, prefix / _NOTES[0]))
    kept = {path for path in found.files if path not in gone and (source_of(path) or "") not in gone}
    owners, listed_by = dict(found.owners), dict(found.listed_by)
    for path in gone:
        owners.pop(path, None)
        listed_by.pop(path, None)
    for each in installed:
        for path, _, _ in each.record():
            owners[path], listed_by[path] = f"pypi:{each.key}", left_out.pypi_package(each)
    folders = {*found.folders, *(folder for path in made for folder in _parents(path))}
    emptied = {os.path.dirname(path) for path in gone} - {os.path.dirname(path) for path in kept | made}
    found = replace(found, places=places, listed_by=listed_by, links=found.links - made)
    return found.with_files(kept | made, folders - emptied, owners)


def _install(prefix: Path, folders: Sequence[str], tree: Path, settings: Settings) -> None:
    from trainenv.channels.access import Access
    from trainenv.channels.pypi import run_uv, uv_options

    arguments = ["pip", "install", "--python", str(prefix / "bin" / "python"), "--prefix", str(tree), "--no-deps"]
    arguments += ["--link-mode", "copy", "--reinstall", *uv_options(), *folders]
    access = Access.of(settings)
    code, output = run_uv(arguments, cache_dir=settings.cache_dir, access=access)
    if code != 0:
        raise ArchiveError(
            f"no wheel can be built of {', '.join(folders)}",
            cause=" ".join(output.split())[-1500:],
            hint="Mend the project, or let it come along as it is with `--editable include`",
        )
    for each in distributions(tree):
        _forget(each, "uv_cache.json")  # When it was built, and nothing else.
    for folder, _, names in os.walk(tree):
        for name in names:
            os.utime(os.path.join(folder, name), (_MADE_MTIME, _MADE_MTIME))


def _settled(prefix: Path, folders: Sequence[str]) -> bytes | None:
    """The note on what was asked for, with the projects in ``folders`` as installed for good."""
    note = read_note(prefix, ENVIRONMENT_NOTE)
    for project in note.get("projects", ()):
        if os.path.normpath(unquote(urlsplit(str(project.get("url", ""))).path)) in folders:
            project["editable"] = False
    return note_text(note) if note else None


def _forget(distribution: Distribution, name: str) -> None:
    """Take a file of the ``.dist-info`` folder out of an installed distribution."""
    (distribution.prefix / distribution.folder / name).unlink(missing_ok=True)
    lines = distribution.record_file.read_text(encoding="utf-8").splitlines(keepends=True)
    entry = f"{os.path.basename(distribution.folder)}/{name},"
    distribution.record_file.write_text("".join(line for line in lines if not line.startswith(entry)), encoding="utf-8")


def _is_buildable(project: Project) -> bool:
    return any(os.path.isfile(os.path.join(project.folder, name)) for name in ("pyproject.toml", "setup.py"))


def _is_below(folder: str, roots: Iterable[str]) -> bool:
    """Whether ``folder`` is one of ``roots`` or inside one, by its name or by where it really is."""
    return any(spelled == root or spelled.startswith(root + "/") for root in roots for spelled in _spellings(folder))


def _spellings(folder: str) -> list[str]:
    return list(dict.fromkeys((folder, os.path.realpath(folder))))


def _holding(prefix: Path, paths: Iterable[str], folder: str) -> tuple[str, ...]:
    """Those of the small text files ``paths`` that name ``folder``."""
    return tuple(
        path
        for path in paths
        if (text := _text(prefix / path)) is not None
        and any(holds(text, spelled, path) for spelled in _spellings(folder))
    )


def _text(file: Path) -> bytes | None:
    try:
        if file.is_symlink() or file.stat().st_size > _LONGEST:
            return None
        text = file.read_bytes()
    except OSError:
        return None
    return None if b"\0" in text else text


def _egg_link(file: Path) -> str | None:
    """The project of a legacy ``.egg-link``: where its ``.egg-info`` lies, and the way from there to ``setup.py``."""
    lines = (_text(file) or b"").decode(errors="surrogateescape").split("\n")
    folder = os.path.normpath(os.path.join(lines[0].strip(), *(line.strip() for line in lines[1:2])))
    return folder if os.path.isabs(folder) and os.path.isdir(folder) else None


def _folders_of_pth(file: Path) -> Iterator[str]:
    for line in (_text(file) or b"").decode(errors="surrogateescape").splitlines():
        folder = os.path.normpath(line.strip()) if line.strip() else ""
        if os.path.isabs(folder) and os.path.isdir(folder):
            yield folder


def _without(text: bytes, folder: str) -> bytes:
    """The lines of a ``.pth`` file that don't lead into ``folder``."""
    kept = [
        line
        for line in text.decode(errors="surrogateescape").splitlines(keepends=True)
        if not (os.path.isabs(line.strip()) and _is_below(os.path.normpath(line.strip()), {folder}))
    ]
    return "".join(kept).encode(errors="surrogateescape")


def _moved(file: Path, path: str, moves: Sequence[tuple[str, str]]) -> bytes | None:
    """The content of ``file`` with new folders for the old ones; None if it has none of them."""
    text = before = _text(file)
    if text is None:
        return None
    for old, new in sorted(moves, key=lambda move: -len(move[0])):
        if (occurrences := find(text, old, path)) is not None:
            text = rewrite(text, occurrences, old, new, path)[0]
    return None if text == before else text


def _written(file: Path, text: bytes, former: Path) -> Path:
    """``text`` in ``file``, with the mode and times of ``former``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text)
    status = former.stat()
    file.chmod(status.st_mode & 0o777)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    return file


def _compiled(source: str, files: Iterable[str]) -> set[str]:
    """The bytecode made of ``source``."""
    if not source.endswith(".py"):
        return set()
    return {path for path in files if path.endswith(".pyc") and source_of(path) == source}


def _free(wanted: str, taken: Iterable[str]) -> str:
    names = set(taken)
    number = 2
    name = wanted
    while name in names:
        name = f"{wanted}-{number}"
        number += 1
    return name


def _parents(path: str) -> Iterator[str]:
    while path := os.path.dirname(path):
        yield path


def _walked(root: str, reporter: Reporter) -> Iterator[tuple[str, str]]:
    """The files of a project, as paths inside of it and where they are; links that stay inside are given as such.

    Left out are version control, caches, environments, and what git ignores, unless it is code (made
    by a build, it is needed).
    """
    ignored = _ignored(root)
    real_root = os.path.realpath(root)
    pending = [""]
    while pending:
        folder = pending.pop()
        for entry in sorted(os.scandir(os.path.join(root, folder) if folder else root), key=lambda entry: entry.name):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name in _NOT_CODE or (path in ignored and not path.endswith((*_CODE, ".egg-info"))):
                continue
            if entry.is_symlink():
                yield from _of_link(root, real_root, path, reporter)
            elif entry.is_dir():
                if not any(os.path.lexists(os.path.join(entry.path, name)) for name in _FOREIGN_FOLDERS):
                    pending.append(path)
            elif entry.is_file():
                yield path, entry.path


def _of_link(root: str, real_root: str, path: str, reporter: Reporter) -> Iterator[tuple[str, str]]:
    place = os.path.join(root, path)
    real = os.path.realpath(place)
    stays = real == real_root or real.startswith(real_root + "/")
    with suppress(ValueError):
        check_link(path, os.readlink(place))
        if stays:
            yield path, place
            return
    if (real_root + "/").startswith(real.rstrip("/") + "/"):
        reporter.notice(f"the link {place} leads to {real}, which the project lies in, and is left out")
        return
    found = [(inner, file) for inner, file, is_folder in links.contents(path, real) if not is_folder]
    if not found:
        reporter.notice(f"{place} is a link to nothing and is left out")
    elif not stays:
        files = "the file" if len(found) == 1 else f"the {len(found)} files"
        reporter.notice(f"the link {place} leads out of the project: {files} at {real} come along in its place")
    yield from found


def _ignored(root: str) -> set[str]:
    """What git ignores of the project in ``root``; nothing where it has no git."""
    command = ["git", "-C", root, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL).stdout
    except (OSError, subprocess.CalledProcessError):
        return set()
    return {os.fsdecode(path).rstrip("/") for path in listed.split(b"\0") if path}

"""Moves a prefix out of conda-pack's hands to its new place.

conda-pack leaves files as they were: with the prefix of the machine that packed, or with the placeholder that a
package was built with, of which ``bin/conda-unpack`` has a list. That list leaves out what pip compiled, RPATHs and
the interpreter itself. So the old prefixes are taken from it, and searched for in all files.
"""

from __future__ import annotations

import ast
import base64
import filecmp
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from trainenv import relocation
from trainenv.archives.manifest import JOURNAL_FILE
from trainenv.archives.members import CONDA_UNPACK
from trainenv.environments import generations, relocated
from trainenv.environments.copies import keep_records_true, placeholder_lengths
from trainenv.environments.records import NOTES_DIR, conda_records, pypi_distributions
from trainenv.progress import Reporter

_OF_CONDA_PACK = (CONDA_UNPACK, "bin/conda_unpack_progress.py")
_MOST_TEXT = 64 << 20
_FOUND_BY_PATH = re.compile(rb"#!/usr/bin/env (?P<name>[A-Za-z0-9_.+-]+)(?=[ \n])")
_INTERPRETER = re.compile(rb"#!(?:/bin/sh\n'''exec' \"?)?(?P<prefix>/[^\n\"]+?)/bin/(?:python|pypy)[0-9.]*[\"\s]")
_OF_THE_SYSTEM = frozenset(("/usr", "/usr/local"))


def old_prefixes(root: Path) -> list[str]:
    """Where the environment, which now lies in ``root``, lay before: mostly one path, none where nothing tells.

    For links and for a search through all files. Placeholders of packages are not among them.
    """
    owned = {path for record in conda_records(root) for path in record.files}
    found = [old for path, old in _conda_unpack_records(root) if path not in owned]
    if carried := relocated.carried_prefix(root):
        found.append(carried)
    if not found:
        found = _voted(root)
    return [old for old in dict.fromkeys(found) if _is_prefix(old)]


def move(root: Path, target_prefix: str, old: Iterable[str], reporter: Reporter) -> None:
    """Make the files in ``root`` carry ``target_prefix`` in place of the ``old`` prefixes and of placeholders.

    Records are kept true, console scripts start their own interpreter again. Raises ``RelocationError``
    if a binary has no room for the prefix.
    """
    listed = _conda_unpack_records(root)
    lengths = placeholder_lengths(root)
    touched: set[str] = set()
    for name in _OF_CONDA_PACK if listed or (root / _OF_CONDA_PACK[1]).is_file() else ():
        (root / name).unlink(missing_ok=True)
    for prefix in old:
        touched.update(
            relocation.relocate_tree(root, prefix, target_prefix, placeholder_lengths=lengths, reporter=reporter)
        )
    with reporter.step("relocate"):
        for placeholder, paths in _by_placeholder(root, listed).items():
            touched.update(relocation.relocate_tree(root, placeholder, target_prefix, paths=sorted(paths)))
        if listed:
            touched.update(_restore_scripts(root, target_prefix))
        touched.difference_update(_restore_links(root))
        (root / "conda-meta" / "history").touch()
        (root / NOTES_DIR / generations.NOTE).unlink(missing_ok=True)
        (root / JOURNAL_FILE).unlink(missing_ok=True)
        moved = relocation.find_in_tree(root, target_prefix, paths=sorted(touched), placeholder_lengths=lengths)
        keep_records_true(root, moved, target_prefix)
        relocated.write_carried_prefix(root, target_prefix)


def _conda_unpack_records(root: Path) -> list[tuple[str, str]]:
    """Path and old prefix of each file that ``bin/conda-unpack`` of conda-pack lists; none without it."""
    script = root / CONDA_UNPACK
    if not script.is_file() or script.is_symlink() or script.stat().st_size > _MOST_TEXT:
        return []
    found: list[tuple[str, str]] = []
    lines = iter(script.read_text(encoding="utf-8", errors="replace").splitlines())
    for line in lines:
        if line == "_prefix_records = [":
            break
    for line in lines:
        if line == "]":
            break
        try:
            path, old, _ = ast.literal_eval(line.rstrip().rstrip(","))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(path, str) and isinstance(old, str) and _is_prefix(old):
            found.append((path, old))
    return found


def _by_placeholder(root: Path, listed: Iterable[tuple[str, str]]) -> Mapping[str, set[str]]:
    """The files that may hold the prefix which their package was built with, by that prefix."""
    groups: dict[str, set[str]] = {}
    for path, old in listed:
        groups.setdefault(old, set()).add(path)
    for record in conda_records(root):
        for entry in record.paths:
            if isinstance(built := entry.get("prefix_placeholder"), str) and _is_prefix(built):
                groups.setdefault(built, set()).add(entry["_path"])
    return {old: {path for path in paths if _is_inside(root, path)} for old, paths in groups.items()}


def _is_inside(root: Path, path: str) -> bool:
    """Whether ``path`` is a file of the tree itself: lists in archives may name any."""
    return not os.path.isabs(path) and os.path.realpath(root / path) == os.path.join(os.path.realpath(root), path)


def _voted(root: Path) -> list[str]:
    """What most scripts, and the interpreter's own notes, have for a prefix."""
    votes: Counter[str] = Counter()
    places = [root / "bin"]
    for script in (entry for place in places if place.is_dir() for entry in place.iterdir()):
        if script.is_file() and not script.is_symlink():
            with script.open("rb") as stream:
                match = _INTERPRETER.match(stream.read(1024))
            if match is not None:
                votes[os.fsdecode(match["prefix"])] += 1
    for pattern, text in (
        ("lib/python3*/_sysconfigdata_*.py", r"'prefix': '(/[^'\n]+)'"),
        ("lib/pkgconfig/*.pc", r"(?m)^prefix=(/\S+)$"),
    ):
        for file in root.glob(pattern):
            if file.is_file() and not file.is_symlink() and file.stat().st_size < _MOST_TEXT:
                votes.update(re.findall(text, file.read_text(encoding="utf-8", errors="replace"))[:1])
    best = [prefix for prefix, _ in votes.most_common() if prefix not in _OF_THE_SYSTEM and _is_prefix(prefix)]
    return best[:1]


def _is_prefix(text: str) -> bool:
    return (
        text.startswith("/") and os.path.normpath(text) == text and text.count("/") > 1 and not set(text) & set("\n\0")
    )


def _restore_scripts(root: Path, target_prefix: str) -> list[str]:
    """Give scripts whose interpreter conda-pack had left to ``PATH`` this environment's again; returns them.

    A script that a package brought in just this form keeps it.
    """
    as_packed = _recorded_hashes(root)
    restored: list[str] = []
    for script in sorted((root / "bin").iterdir()) if (root / "bin").is_dir() else []:
        path = f"bin/{script.name}"
        if script.is_symlink() or not script.is_file() or script.stat().st_size > _MOST_TEXT:
            continue
        with script.open("rb") as stream:
            match = _FOUND_BY_PATH.match(stream.read(256))
        if match is None or path in _OF_CONDA_PACK or not (root / "bin" / os.fsdecode(match["name"])).exists():
            continue
        content = script.read_bytes()
        if path not in as_packed or hashlib.sha256(content).hexdigest() in as_packed[path]:
            continue
        header = f"#!{relocation.PLACEHOLDER}/bin/{os.fsdecode(match['name'])}"
        _rewrite(root, path, header.encode() + content[match.end() :], target_prefix)
        restored.append(path)
    return restored


def _restore_links(root: Path) -> list[str]:
    """Make links again of what a zip file holds as copies, as conda-pack follows links there; returns them.

    Records say which files are links, and the sha256 of what they lead to: another file of the package. A copy is
    of that as it is here, or as the package has it.
    """
    restored: list[str] = []
    for record in conda_records(root):
        files: dict[str, list[str]] = {}
        copies: list[tuple[str, str]] = []
        for entry in record.paths:
            path, digest = entry["_path"], entry.get("sha256")
            if not isinstance(digest, str) or not (root / path).is_file() or not _is_inside(root, path):
                continue
            if entry.get("path_type") == "softlink":
                copies.append((path, digest))
            else:
                files.setdefault(digest, []).append(path)
        for path, digest in copies:
            others = files.get(digest, [])
            is_original = hashlib.sha256((root / path).read_bytes()).hexdigest() == digest
            same = (each for each in others if is_original or filecmp.cmp(root / path, root / each, shallow=False))
            if (other := next(same, None)) is not None:
                (root / path).unlink()
                (root / path).symlink_to(os.path.relpath(other, os.path.dirname(path) or "."))
                restored.append(path)
    return restored


def _rewrite(root: Path, path: str, content: bytes, prefix: str) -> None:
    """Replace the script ``path`` by ``content``, which names the placeholder, so that it starts anywhere."""
    occurrences = relocation.find(content, relocation.PLACEHOLDER, path)
    if occurrences is not None:
        content = relocation.rewrite(content, occurrences, relocation.PLACEHOLDER, prefix, path)[0]
    place = root / path
    status = place.stat()
    beside = place.with_name(f".{place.name}.new")
    beside.write_bytes(content)
    os.chmod(beside, status.st_mode & 0o777)
    os.utime(beside, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(beside, place)


def _recorded_hashes(root: Path) -> dict[str, set[str]]:
    """The sha256 that packages' records have of their files in ``bin``; none of them where a record has no hash."""
    found: dict[str, set[str]] = {}
    records = conda_records(root)
    for record in records:
        for path in record.files:
            found.setdefault(path, set())
        for entry in record.paths:
            own = {entry.get("sha256"), entry.get("sha256_in_prefix")}
            found.setdefault(entry["_path"], set()).update(digest for digest in own if digest)
    for distribution in pypi_distributions(root, records):
        for path, digest, _ in distribution.record():
            if path.startswith("bin/"):
                found.setdefault(path, set()).update(hexadecimal(digest))
    return found


def hexadecimal(digest: str) -> list[str]:
    """The hash of a RECORD line (``sha256=`` and base64) as hexadecimal; none for another kind or a wrong one."""
    algorithm, _, value = digest.partition("=")
    try:
        return [base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()] if algorithm == "sha256" else []
    except ValueError:
        return []

"""The files whose own records have no hash, because every move changes them: console scripts and the like.

Their hash is that of their canonical form, with a placeholder for the prefix, and stands in
``conda-meta/trainenv/relocation.json`` together with where the prefix is in each. Archives bring
such a file along; here it is kept for what is built or changed in place. Beside it, ``prefix`` says
which prefix the files carry: that of another machine or container where ``visible_as`` is set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from trainenv import relocation
from trainenv.environments.records import NOTES_DIR, read_note, replace_file

NOTE = "relocation.json"
_VERSION = 1


def carried_prefix(prefix: Path) -> str | None:
    """The prefix that the files of the environment at ``prefix`` carry, None where nobody wrote it down."""
    try:
        return (prefix / NOTES_DIR / "prefix").read_text(encoding="utf-8").rstrip("\n") or None
    except OSError:
        return None


def write_carried_prefix(prefix: Path, carried: str) -> None:
    replace_file(prefix / NOTES_DIR / "prefix", f"{carried}\n".encode())


def remember(prefix: Path, found: Mapping[str, relocation.Occurrences], carried: str) -> None:
    """Keep the canonical hash of files that hold ``carried`` as ``found`` says, by path."""
    entries = dict(read_note(prefix, NOTE).get("files", {}))
    for path, occurrences in found.items():
        try:
            content, canonical = relocation.rewrite(
                (prefix / path).read_bytes(), occurrences, carried, relocation.PLACEHOLDER, path, portable=True
            )
        except relocation.NoRoomError:  # A binary that can't be moved has no canonical form.
            continue
        digest = hashlib.sha256(content).hexdigest()
        entries[path] = {**canonical.to_json(), "sha256": digest, "size": len(content)}
    _write(prefix, entries)


def recorded(prefix: Path, held: str) -> dict[str, relocation.Occurrences]:
    """The recorded occurrences by path, as they are in files that hold the prefix ``held``."""
    entries = read_note(prefix, NOTE).get("files", {})
    return {
        path: relocation.shifted(relocation.Occurrences.from_json(entry), relocation.PLACEHOLDER, held)
        for path, entry in entries.items()
    }


def forget(prefix: Path, paths: Collection[str]) -> None:
    """Drop what is known of files that were changed or removed."""
    entries = read_note(prefix, NOTE).get("files", {})
    if not entries.keys().isdisjoint(paths):
        _write(prefix, {path: entry for path, entry in entries.items() if path not in paths})


def _write(prefix: Path, entries: Mapping[str, object]) -> None:
    # The slash is escaped so that no search for the placeholder finds it here.
    spelled = json.dumps(relocation.PLACEHOLDER).replace("/", "\\u002f")
    files = json.dumps(entries, sort_keys=True)
    document = f'{{"version":{_VERSION},"placeholder":{spelled},"files":{files}}}\n'
    replace_file(prefix / NOTES_DIR / NOTE, document.encode())

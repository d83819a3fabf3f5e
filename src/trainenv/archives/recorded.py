"""What ``relocation.json`` of an environment says of its files, kept as text until one asks for a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainenv.archives.columns import compact
from trainenv.archives.manifest import RELOCATION_FILE
from trainenv.relocation.rewrite import PLACEHOLDER, Occurrences


class Recorded(NamedTuple):
    """What is said of one file: its canonical occurrences and content."""

    occurrences: Occurrences
    sha256: str


class Records:
    """By path the texts of the entries: a hundred thousand objects would take ten times as much memory."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def __contains__(self, path: str) -> bool:
        return path in self._texts

    def get(self, path: str) -> Recorded | None:
        """What is said of the file ``path``; None if nothing is, or nothing that makes sense."""
        text = self._texts.get(path)
        if text is None:
            return None
        try:
            entry = json.loads(text)
            return Recorded(Occurrences.from_json(entry), str(entry["sha256"]))
        except (ValueError, KeyError, TypeError, OverflowError):
            return None


def read_records(prefix: Path) -> Records:
    """What ``relocation.json`` of the environment at ``prefix`` says; nothing if it has none or a bad one."""
    try:
        document = json.loads((prefix / RELOCATION_FILE).read_bytes(), object_pairs_hook=_texts)
        if document["placeholder"] != PLACEHOLDER:
            return Records({})
        files = document["files"].items()
        return Records({sys.intern(path): text for path, text in files if isinstance(text, str)})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Records({})


def _texts(pairs: list[tuple[str, Any]]) -> Any:
    """An entry as its text, everything else as it is."""
    values = dict(pairs)
    return compact(values) if "sha256" in values and "kind" in values else values

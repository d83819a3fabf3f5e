"""Relocation: finding a prefix in files and rewriting it to another, exactly and reversibly.

The model: one scan says where a prefix occurs in a file and how it has to be rewritten there; that
record moves along with the bytes, so nothing is searched for again::

    occurrences = find(data, "/opt/envs/a", "bin/tool")
    if occurrences is not None:
        moved, record = rewrite(data, occurrences, "/opt/envs/a", PLACEHOLDER, "bin/tool", portable=True)
        ...  # store both; elsewhere, perhaps years later:
        check_room(record, "/srv/b", "bin/tool")
        there, record = rewrite(moved, record, PLACEHOLDER, "/srv/b", "bin/tool")

A text gets longer or shorter; a binary never does, its strings move within their own room; a ``.pyc``
has its string lengths rewritten. Whole trees: ``relocate_tree``, ``find_in_tree``, ``leftovers``.

``rewrite.py`` and ``spelling.py`` need nothing but a Python 3.8, as they also run alone, inside of archives.
"""

from __future__ import annotations

from trainenv.relocation.elf import Needs, needs
from trainenv.relocation.rewrite import (
    PLACEHOLDER,
    MismatchError,
    NoRoomError,
    Occurrences,
    check_room,
    growth,
    moved_link,
    rewrite,
    room,
    shifted,
    with_source_size,
)
from trainenv.relocation.search import checked_prefix, find
from trainenv.relocation.spelling import SPELLINGS, is_plain, spelled
from trainenv.relocation.tree import PrefixTooLongError, find_in_tree, leftovers, relocate_tree

__all__ = [
    "PLACEHOLDER",
    "SPELLINGS",
    "MismatchError",
    "Needs",
    "NoRoomError",
    "Occurrences",
    "PrefixTooLongError",
    "check_room",
    "checked_prefix",
    "find",
    "find_in_tree",
    "growth",
    "is_plain",
    "leftovers",
    "moved_link",
    "needs",
    "relocate_tree",
    "rewrite",
    "room",
    "shifted",
    "spelled",
    "with_source_size",
]

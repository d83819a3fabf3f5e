"""What is said to be left over is what a search sees, and nothing that was rewritten."""

from __future__ import annotations

import importlib.util
import json
import marshal
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trainenv.relocation import PrefixTooLongError, find, leftovers, relocate_tree
from trainenv.relocation.search import holds

OLD_NAMES = st.text("ab09_.-+@ é%&'\"\\$#;😀", min_size=1, max_size=8).filter(lambda name: not name.startswith("-"))
NEW_NAMES = st.text("xyzü", min_size=1, max_size=8)
"""Of other letters than the old ones: a new prefix may well hold the old one, ``/opt/a`` in ``/opt/a/b``."""
BEFORE = st.sampled_from(["", " ", ":", "=", "-L", "./", ".", "..", "~", "/mnt", "file://", "é", "，", "\n", '"'])
AFTER = st.sampled_from([":", "/lib:", "/lib ", "\n", '"', ".", "b", ".bak", "-", "é", "%20", " "])
PATHS = {
    "json": "etc/a.json",
    "text": "etc/a.conf",
    "script": "bin/tool",
    "binary": "lib/a.so",
    "pyc": "lib/python3.11/a.pyc",
}


def prefixes(names: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(names, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))


def pyc_with(*texts: str) -> bytes:
    """A compiled module of this interpreter, that holds ``texts``."""
    source = "".join(f"v{number} = {text!r}\n" for number, text in enumerate(texts))
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(compile(source, "/elsewhere/a.py", "exec"))


def content(kind: str, prefix: str, texts: list[str]) -> bytes:
    if kind == "pyc":
        return pyc_with(*texts)
    if kind == "json":
        return json.dumps(texts).encode()
    if kind == "binary":
        return b"\0" + b"".join(text.encode() + bytes(40) for text in texts)
    header = f"#!{prefix}/bin/python3.11\n" if kind == "script" else ""
    return (header + "\n".join(texts) + "\n").encode()


@pytest.mark.parametrize("text", ["..{}/x", "~{}/x", "./{}/x", ".{}/x", ".{}", "..{}", "/mnt{}/x", "{}b/x", "x{}/x"])
def test_no_length_of_a_prefix_makes_a_compiled_file_seem_to_hold_it(text: str) -> None:
    """A string's length stands before it as one byte, which for some lengths is a letter."""
    for length in range(2, 300):
        prefix = "/" + "p" * (length - 1)
        pyc = pyc_with(text.format(prefix), "another")
        assert holds(pyc, prefix, "a.pyc") == (find(pyc, prefix, "a.pyc") is not None), length


@given(st.data(), prefixes(OLD_NAMES), st.sampled_from(sorted(PATHS)))
def test_a_leftover_is_what_a_search_finds(data: st.DataObject, prefix: str, kind: str) -> None:
    around = data.draw(st.lists(st.tuples(BEFORE, AFTER), max_size=4))
    made = content(kind, prefix, [f"{before}{prefix}{after}" for before, after in around])
    assert holds(made, prefix, PATHS[kind]) == (find(made, prefix, PATHS[kind]) is not None)


@given(st.data(), prefixes(OLD_NAMES), prefixes(NEW_NAMES))
def test_nothing_is_left_over_after_a_move(data: st.DataObject, old: str, new: str) -> None:
    around = data.draw(st.lists(st.tuples(BEFORE, AFTER), min_size=1, max_size=4))
    texts = [f"{before}{old}{after}" for before, after in around]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for kind, path in PATHS.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content(kind, old, texts))
        seen = {path for path, prefix in leftovers(root, [old])}
        lengths = {PATHS["binary"]: len(old.encode()) + 30}
        try:
            moved = relocate_tree(root, old, new, placeholder_lengths=lengths)
        except PrefixTooLongError:
            assume(False)
        assert set(moved) == seen
        assert leftovers(root, [old]) == []

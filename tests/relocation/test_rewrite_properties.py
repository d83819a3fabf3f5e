"""Whatever the file and the prefixes: a rewrite is exact, can be taken back, and touches nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trainenv.relocation import (
    PLACEHOLDER,
    MismatchError,
    NoRoomError,
    Occurrences,
    check_room,
    find,
    rewrite,
    room,
    shifted,
)

names = st.text("abz09_.+-@ é%&'\"\\$#;😀中", min_size=1, max_size=12)
prefixes = (
    st.lists(names, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
    | st.integers(1, 300).map(lambda size: "/" + "p" * size)
    | st.just(PLACEHOLDER)
)
surroundings = st.sampled_from(
    [
        "",
        " ",
        "\n",
        ":",
        '"',
        "/",
        "//",
        "-L",
        "PATH=",
        "file://",
        "/mnt",
        "..",
        ".",
        ".bak",
        "b",
        "-",
        "/lib",
        "é",
        "，",
    ]
) | st.text(max_size=8).map(lambda text: text.replace("\0", ""))
headers = st.sampled_from(
    [
        "",
        "#!{p}/bin/python3.11\n",
        "#!{p}/bin/python3.11 -Es\n",
        "#! {p}/bin/python\n",
        "#!{p}/bin/python -E -s \n",
        "#!{p}/bin/perl -w\n",
        "#!{p}/bin/python3.11\n# -*- coding: latin-1 -*-\n",
        "#!{p}/bin/python3.11\n# vim: set fileencoding=utf-8 : {p}\n",
        "#!/bin/sh\n'''exec' \"{p}/bin/python\" \"$0\" \"$@\"\n' '''\n",
        "#!/bin/sh\n'''exec' {p}/bin/python -E \"$0\" \"$@\"\n' '''\n# coding=utf-8\n",
        "#!/bin/sh\nexec {p}/bin/tool\n",
    ]
)
paths = st.sampled_from(
    [
        *("bin/tool", "tool", "share/a/b/tool", "lib/python3.11/module.py"),
        *("a.json", "lib/x.pc", "lib/x.cmake", "bin/x.sh", "etc/x.xml"),
    ]
)


def texts(prefix: str) -> st.SearchStrategy[bytes]:
    """Texts with at least one occurrence, and more in all kinds of places."""
    places = st.lists(st.tuples(surroundings, surroundings), max_size=5)

    def text(header: str, around: list[tuple[str, str]]) -> bytes:
        body = "".join(f"{before}{prefix}{after}" for before, after in around)
        return f"{header.replace('{p}', prefix)}{body} {prefix}\n".encode()

    return st.builds(text, headers, places)


def binaries(prefix: str) -> st.SearchStrategy[bytes]:
    """Binaries with at least one occurrence, with and without room behind it."""
    string = st.tuples(st.binary(max_size=8), st.lists(surroundings, max_size=3), st.integers(0, 40))

    def binary(magic: bytes, strings: list[tuple[bytes, list[str], int]]) -> bytes:
        parts = [
            before + "".join(prefix + after for after in afters).encode() + b"\0" * padding
            for before, afters, padding in strings
        ]
        return magic + b"".join(parts) + b"\0" + prefix.encode() + b"/etc\0"

    return st.builds(binary, st.sampled_from([b"", b"\x7fELF"]), st.lists(string, max_size=4))


def found_and_moved(
    data: bytes, old: str, new: str, path: str, *, portable: bool = False, placeholder_length: int | None = None
) -> tuple[Occurrences, bytes, Occurrences]:
    occurrences = find(data, old, path, placeholder_length=placeholder_length)
    assume(occurrences is not None)
    assert occurrences is not None
    try:
        moved, record = rewrite(data, occurrences, old, new, path, portable=portable)
    except NoRoomError:
        limit = room(occurrences)
        assert limit is not None
        assert len(new.encode()) > limit or occurrences.spellings or portable
        with pytest.raises(NoRoomError):
            check_room(occurrences, new, path, portable=portable)
        assume(False)
        raise
    check_room(occurrences, new, path, portable=portable)
    return occurrences, moved, record


@given(st.data(), prefixes, prefixes, paths)
def test_a_text_comes_back_byte_for_byte(data: st.DataObject, old: str, new: str, path: str) -> None:
    text = data.draw(texts(old))
    occurrences, moved, record = found_and_moved(text, old, new, path)
    assert rewrite(moved, record, new, old, path) == (text, occurrences)


@given(st.data(), prefixes, prefixes, prefixes, paths)
def test_the_way_does_not_show_in_the_result(data: st.DataObject, old: str, between: str, new: str, path: str) -> None:
    text = data.draw(texts(old))
    _, moved, record = found_and_moved(text, old, between, path)
    occurrences = find(text, old, path)
    assert occurrences is not None
    assert rewrite(moved, record, between, new, path) == rewrite(text, occurrences, old, new, path)


@given(st.data(), prefixes, prefixes, paths, st.booleans())
def test_records_move_without_the_data(data: st.DataObject, old: str, new: str, path: str, portable: bool) -> None:
    content = data.draw(texts(old) | binaries(old))
    occurrences, _, record = found_and_moved(content, old, new, path, portable=portable)
    assert shifted(occurrences, old, new, portable=portable) == record
    assert Occurrences.from_json(json.loads(json.dumps(record.to_json()))) == record


@given(st.data(), prefixes, prefixes, paths)
def test_texts_of_the_same_environment_at_two_places_have_the_same_canonical_form(
    data: st.DataObject, old: str, new: str, path: str
) -> None:
    text = data.draw(texts(old))
    occurrences, moved, record = found_and_moved(text, old, new, path)
    here = rewrite(text, occurrences, old, PLACEHOLDER, path, portable=True)
    there = rewrite(moved, record, new, PLACEHOLDER, path, portable=True)
    assert here == there


@given(st.data(), prefixes, prefixes, st.none() | st.integers(1, 300))
def test_a_binary_comes_back_and_never_changes_its_size(
    data: st.DataObject, old: str, new: str, placeholder_length: int | None
) -> None:
    binary = data.draw(binaries(old))
    assume(b"\0" in binary)
    path = "lib/x.so"
    occurrences, moved, record = found_and_moved(binary, old, new, path, placeholder_length=placeholder_length)
    assert len(moved) == len(binary)
    assert rewrite(moved, record, new, old, path) == (binary, occurrences)
    inside = {byte for slot in occurrences.slots for byte in range(slot.start, slot.start + slot.capacity)}
    assert all(moved[i] == binary[i] for i in range(len(binary)) if i not in inside)
    for slot in occurrences.slots:
        string = moved[slot.start : slot.start + slot.capacity].split(b"\0", 1)[0]
        assert string.startswith((new.encode(), b"%", b"/"))
        assert binary[slot.start + slot.capacity : slot.start + slot.capacity + 1] in (b"\0", b"")


@given(prefixes, st.binary(max_size=200))
def test_nothing_is_found_where_nothing_is(prefix: str, data: bytes) -> None:
    assume(prefix.encode() not in data)
    assert find(data, prefix, "lib/file") is None


@given(st.data(), prefixes, prefixes)
def test_bytes_around_the_occurrences_of_a_text_stay(data: st.DataObject, old: str, new: str) -> None:
    text = data.draw(texts(old).map(lambda text: b" " + text))
    occurrences, moved, record = found_and_moved(text, old, new, "share/x")
    assume(not occurrences.spellings)

    def around(content: bytes, offsets: tuple[int, ...], prefix: str) -> list[bytes]:
        size = len(prefix.encode())
        begins = [0, *(offset + size for offset in offsets)]
        return [content[b:e] for b, e in zip(begins, [*offsets, len(content)], strict=True)]

    assert around(moved, record.offsets, new) == around(text, occurrences.offsets, old)


def test_search_paths_with_several_occurrences_share_one_room() -> None:
    data = b"\x01\0/opt/a/lib:/opt/a/lib64\0" + b"\0" * 60 + b"end"
    occurrences = find(data, "/opt/a", "lib/x.so", placeholder_length=30)
    assert occurrences is not None
    assert [slot.capacity for slot in occurrences.slots] == [23 + 2 * 24]
    assert room(occurrences) == 30
    moved, _ = rewrite(data, occurrences, "/opt/a", "/" + "n" * 29, "lib/x.so")
    assert moved[2:].split(b"\0")[0] == b"/%b/lib:/%b/lib64" % (b"n" * 29, b"n" * 29)
    with pytest.raises(NoRoomError) as caught:
        rewrite(data, occurrences, "/opt/a", "/" + "n" * 30, "lib/x.so")
    assert (caught.value.path, caught.value.needed, caught.value.room) == ("lib/x.so", 73, 71)


def test_room_ends_where_the_padding_ends() -> None:
    data = b"\0/opt/a/lib\0\0\0\0\0next\0"
    occurrences = find(data, "/opt/a", "lib/x.so", placeholder_length=255)
    assert occurrences is not None
    assert occurrences.slots[0].capacity == len("/opt/a/lib") + 4


def test_the_new_prefix_may_occur_in_the_file_on_its_own_account() -> None:
    data = b"/new/x and /old/x and /new/x"
    occurrences = find(data, "/old", "x")
    assert occurrences is not None
    moved, record = rewrite(data, occurrences, "/old", "/new", "x")
    assert moved == b"/new/x and /new/x and /new/x"
    assert rewrite(moved, record, "/new", "/old", "x")[0] == data


@pytest.mark.parametrize("data", [b"x/opt/b/lib", b"", b"/opt/a/lib"])
def test_another_file_than_the_recorded_one_is_refused(data: bytes) -> None:
    occurrences = find(b":/opt/a/lib", "/opt/a", "x")
    assert occurrences is not None
    with pytest.raises(MismatchError):
        rewrite(data, occurrences, "/opt/a", "/opt/c", "x")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"kind": "text", "offsets": 3},
        {"kind": "text", "offsets": ["x"]},
        {"kind": "binary", "slots": [[1, 2]]},
        {"kind": "binary", "offsets": [99], "slots": [[1, 2, 3]]},
        {"kind": "text", "script": {}},
    ],
)
def test_a_damaged_record_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Occurrences.from_json(values)

"""Where a prefix counts as one, and where it is only part of another name."""

from __future__ import annotations

import pickle

import pytest

from trainenv.relocation import find, rewrite
from trainenv.relocation.search import holds

PREFIX = "/opt/envs/a"


def texts_at(text: str | bytes, prefix: str = PREFIX) -> list[int]:
    data = text.encode() if isinstance(text, str) else text
    occurrences = find(data, prefix, "share/file")
    assert holds(data, prefix, "share/file") == (occurrences is not None)
    return [] if occurrences is None else list(occurrences.offsets)


@pytest.mark.parametrize(
    "text",
    [
        "/opt/envs/a",
        "-L/opt/envs/a/lib",
        "/usr/lib:/opt/envs/a/lib",
        "file:///opt/envs/a",
        '"/opt/envs/a"',
        "it lives in /opt/envs/a.",
        "it lives in /opt/envs/a...",
        "PATH=/opt/envs/a",
        "--prefix=/opt/envs/a --x",
        "-Wl,-rpath,/opt/envs/a/lib,-z,now",
        "-ffile-prefix-map=/opt/envs/a=/src",
        "user@host:/opt/envs/a/x",
        "“/opt/envs/a”",
        "see doc/index，/opt/envs/a，and",
        "路径/opt/envs/a",
        "${DESTDIR}/opt/envs/a/bin",
        "//opt/envs/a/x",
        "@/opt/envs/a/args.rsp",
        "./opt/envs/a",
        "/opt/envs/a\n",
        "(/opt/envs/a)",
    ],
)
def test_a_path_is_found(text: str) -> None:
    offset = text.encode().find(PREFIX.encode())
    assert texts_at(text) == [offset]


@pytest.mark.parametrize(
    "text",
    [
        "/opt/envs/ab/x",
        "/opt/envs/a-b",
        "/opt/envs/a_b",
        "/opt/envs/a.bak",
        "/opt/envs/a.bak/x",
        "/opt/envs/a../x",
        "/opt/envs/a+b",
        "/opt/envs/a~",
        "/opt/envs/a%20b",
        "/opt/envs/aé",
        "/mnt/opt/envs/a",
        "/mnt//opt/envs/a",
        "../opt/envs/a",
        "~/opt/envs/a",
        "http://example.org/opt/envs/a",
        "/home/é/opt/envs/a",
        "/opt/envs",
        "opt/envs/a",
    ],
)
def test_another_path_is_left_alone(text: str) -> None:
    assert texts_at(text) == []


def test_a_prefix_may_end_in_any_letter_of_a_name() -> None:
    assert texts_at("/opt/a.b/x /opt/a.bc /opt/a", "/opt/a.b") == [0]


def test_overlapping_matches_count_once() -> None:
    assert texts_at("/a:/a:/a", "/a:/a") == [0]


def test_a_length_that_looks_like_a_letter_belongs_to_no_path() -> None:
    pickled = pickle.dumps([PREFIX + "/x", PREFIX + "/y"], protocol=4)
    assert len(texts_at(pickled)) == 2


def test_many_occurrences_after_long_runs_take_no_long_time() -> None:
    data = (b"x" * 4000 + b" " + b"y" * 4000 + b"=/opt/envs/a/lib\n") * 500
    occurrences = find(data, PREFIX, "share/file")
    assert occurrences is not None
    assert len(occurrences.offsets) == 500


@pytest.mark.parametrize("prefix", ["relative", "/", "/a/", "/a\nb", "/a\0b", "", "/\udc80"])
def test_what_is_no_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match=r"can't be the prefix|not valid UTF-8"):
        find(b"", prefix, "x")


def test_a_url_with_a_blank_in_it_moves_and_comes_back() -> None:
    data = b'{"url": "file:///opt/my%20env/src", "dir": "/opt/my env/src"}'
    occurrences = find(data, "/opt/my env", "lib/direct_url.json")
    assert occurrences is not None
    moved, record = rewrite(data, occurrences, "/opt/my env", "/srv/ä b", "lib/direct_url.json")
    assert moved.decode() == '{"url": "file:///srv/%C3%A4%20b/src", "dir": "/srv/\\u00e4 b/src"}'
    assert find(moved, "/srv/ä b", "lib/direct_url.json") == record
    back, again = rewrite(moved, record, "/srv/ä b", "/opt/my env", "lib/direct_url.json")
    assert (back, again) == (data, occurrences)


def test_files_with_checksums_of_their_own_are_not_touched_but_reported() -> None:
    zipped = b"PK\x03\x04\x14\0\0\0 /opt/envs/a/lib \0"
    assert find(zipped, PREFIX, "share/x.jar") is None
    assert holds(zipped, PREFIX, "share/x.jar")

"""Headers: what real readers make of them."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trainenv.archives import tarformat

_NAMES = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0\n"), min_size=1, max_size=120
).filter(lambda name: name not in (".", "..") and len(name.encode()) <= 255)
_PATHS = st.lists(_NAMES, min_size=1, max_size=5).map("/".join)


@given(path=_PATHS, target=_PATHS, mode=st.integers(0, 0o777), mtime=st.integers(0, tarformat.LATEST_MTIME))
@example(path="a" * 100, target="t" * 100, mode=0o644, mtime=0)
@example(path="a" * 101, target="t" * 101, mode=0o644, mtime=0)
@example(path="p" * 155 + "/" + "n" * 100, target="t", mode=0o644, mtime=0)
@example(path="p" * 156 + "/" + "n" * 100, target="t", mode=0o644, mtime=0)
@example(path="p" * 155 + "/" + "n" * 99, target="t", mode=0o644, mtime=0)
def test_python_reads_back_what_was_written(path: str, target: str, mode: int, mtime: int) -> None:
    stream = tarformat.header(path, "folder", mode, 0, mtime)
    stream += tarformat.header(path + "f", "file", mode, 3, mtime) + b"abc" + bytes(tarformat.padding(3))
    stream += tarformat.header(path + "l", "link", mode, 0, mtime, target)
    with tarfile.open(fileobj=io.BytesIO(stream + tarformat.END)) as tar:
        members = tar.getmembers()
    assert [(m.name, m.isdir(), m.isreg(), m.issym()) for m in members] == [
        (path, True, False, False),
        (path + "f", False, True, False),
        (path + "l", False, False, True),
    ]
    assert [m.mode for m in members] == [mode] * 3
    assert [m.mtime for m in members] == [mtime] * 3
    assert members[1].size == 3
    assert members[2].linkname == target
    assert {(m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, "", "")}


@pytest.mark.parametrize("length", [99, 100, 101, 155, 156, 250])
def test_the_tar_program_lists_long_names(length: int, tmp_path: Path) -> None:
    names = ["x" * length, "d/" + "x" * length, "x" * length + "/d", "ü" * (length // 2)]
    stream = b"".join(tarformat.header(name, "file", 0o644, 0, 1) for name in names) + tarformat.END
    (tmp_path / "a.tar").write_bytes(stream)
    command = ["tar", "--quoting-style=literal", "-tf", str(tmp_path / "a.tar")]
    assert subprocess.check_output(command, text=True, encoding="utf-8").split() == names


def test_a_size_beyond_ustar_goes_into_the_extended_header() -> None:
    stream = tarformat.header("big", "file", 0o644, 8**11, 1)
    with tarfile.open(fileobj=io.BytesIO(stream + tarformat.END)) as tar:
        member = tar.next()
    assert member is not None
    assert member.size == 8**11

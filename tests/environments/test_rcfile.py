from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainenv.environments import rcfile

_LINES = st.sampled_from(
    [b"export A=1\n", b"\n", b"# >>> conda initialize >>>\n", b"\xff\xfe\n", b"crlf\r\n", b"end", b" # >>> trainenv\n"]
)


@given(before=st.none() | st.lists(_LINES).map(b"".join), after=st.lists(_LINES).map(b"".join))
@settings(max_examples=60)
def test_taking_the_block_out_leaves_the_bytes_around_it(
    tmp_path_factory: pytest.TempPathFactory, before: bytes | None, after: bytes
) -> None:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        file = home / ".bashrc"
        if before is not None:
            file.write_bytes(before)
        rcfile.added("bash").write()
        written = file.read_bytes()
        assert written.startswith(before or b"")
        assert rcfile.added("bash").after == written
        rcfile.removed("bash").write()
        assert (file.read_bytes() if file.exists() else None) == before

        file.write_bytes(written + after)
        rcfile.removed("bash").write()
        kept = file.read_bytes() if file.exists() else b""
        ended = before is None or not before or before.endswith(b"\n") or not after
        assert kept == (before or b"") + (b"" if ended else b"\n") + after


def test_an_outdated_block_is_brought_up_to_date_where_it_stands(own_home: Path) -> None:
    file = own_home / ".bashrc"
    file.write_text("first")
    rcfile.added("bash").write()
    current = file.read_bytes()
    file.write_bytes(current.replace(b"completion.bash", b"old.bash") + b"last\n")
    rcfile.added("bash").write()
    assert file.read_bytes() == current + b"last\n"
    rcfile.removed("bash").write()
    assert file.read_bytes() == b"first\nlast\n"


def test_a_hard_link_stays_one(own_home: Path) -> None:
    file, other = own_home / ".bashrc", own_home / "kept"
    file.write_text("mine\n")
    other.hardlink_to(file)
    rcfile.added("bash").write()
    assert other.read_bytes() == file.read_bytes()

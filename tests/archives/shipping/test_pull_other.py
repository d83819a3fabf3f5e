"""``pull`` of paths, ``file://`` and whatever fsspec knows."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import fsspec
import pytest

from tests.archives.shipping.conftest import leftovers
from trainenv import Workspace
from trainenv.errors import ArchiveError, UsageError


def test_from_a_file_system_of_fsspec(place: Workspace, www: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe("/archives/chat.tar.zst", (www / "chat.tar.zst").read_bytes())
    assert place.pull("memory://archives/chat.tar.zst").name == "chat"
    assert leftovers(place) == []


def test_from_within_another_archive(place: Workspace, www: Path) -> None:
    with zipfile.ZipFile(www / "all.zip", "w") as out:
        out.write(www / "chat.tar.zst", "in/chat.tar.zst")
    assert place.pull(f"zip://in/chat.tar.zst::file://{www}/all.zip").name == "chat"


def test_from_this_machine(place: Workspace, www: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(www)
    for number, address in enumerate((f"file://{www}/chat.tar.zst", "chat.tar.zst", str(www / "chat.tar.zst"))):
        assert place.pull(address, f"chat{number}").name == f"chat{number}"
    assert leftovers(place) == []


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("memory://nothing.tar.zst", ArchiveError, "memory://nothing.tar.zst is not there"),
        ("memory://folder", ArchiveError, "it is a folder|is a folder"),
        ("s3://bucket/chat.tar.zst", UsageError, "s3://bucket/chat.tar.zst can't be reached: .*s3fs"),
        ("ftp://127.0.0.1:1/x", ArchiveError, r"ftp://127.0.0.1:1/x can't be reached: Connection refused. See whether"),
        ("nonsense://x/y", UsageError, "nonsense://x/y can't be reached: .*nonsense"),
        ("file:///nothing", ArchiveError, "/nothing can't be read: No such file"),
    ],
)
def test_what_is_not_there_or_not_known(
    place: Workspace, memory: fsspec.AbstractFileSystem, address: str, error: type[Exception], words: str
) -> None:
    memory.pipe("/folder/x", b"x")
    with pytest.raises(error, match=words):
        place.pull(address)


def test_a_signed_archive_comes_with_its_signature(
    place: Workspace, www: Path, memory: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    signers = tmp_path / "signers"
    signers.write_text(f'ada@example.org namespaces="trainenv" {(tmp_path / "key.pub").read_text()}')
    memory.pipe("/chat.tar.zst", (www / "chat.tar.zst").read_bytes())
    with pytest.raises(ArchiveError, match=r"memory://chat\.tar\.zst is not signed: there is no chat\.tar\.zst\.sig"):
        place.pull("memory://chat.tar.zst", allowed_signers=signers)
    signature = place.sign(www / "chat.tar.zst", key)
    memory.pipe("/chat.tar.zst.sig", signature.read_bytes())
    assert place.pull("memory://chat.tar.zst", allowed_signers=signers).name == "chat"
    memory.pipe("/chat.tar.zst", (www / "chat.tar.zst").read_bytes()[:-1] + b"x")
    with pytest.raises(ArchiveError, match="is not what was signed"):
        place.pull("memory://chat.tar.zst", "other", allowed_signers=signers)
    assert leftovers(place) == []

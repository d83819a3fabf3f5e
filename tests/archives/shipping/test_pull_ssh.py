"""``pull`` by way of a real OpenSSH server, whose other side has nothing but a shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests.archives.conftest import snapshot
from tests.archives.shipping.conftest import leftovers
from tests.archives.shipping.sshd import Far, far_side
from trainenv import Workspace, archives
from trainenv.archives.shipping import ssh
from trainenv.archives.shipping.addresses import parse
from trainenv.archives.shipping.transport import Interrupted
from trainenv.errors import ArchiveError, TransferError
from trainenv.progress import SilentReporter

BUSYBOX = "/bin/busybox"


@pytest.fixture
def chat(far: Far, small_archive: Path) -> Path:
    """The archive in the home folder of the far side."""
    return Path(shutil.copy(small_archive, far.home / "chat it's.tar.zst"))


def test_every_way_to_write_the_address(place: Workspace, far: Far, chat: Path, small_archive: Path) -> None:
    archives.unpack_environment(place.settings, small_archive, name="chat", reporter=SilentReporter())
    wanted = snapshot(place.settings.prefix_of("chat"))
    spelled = str(chat).replace(" ", "%20")
    for address in (f"far:{chat.name}", f"ssh://far{spelled}", f"ssh://127.0.0.1:{far.port}/~/{chat.name}"):
        place.remove("chat")
        environment = place.pull(address)
        assert snapshot(environment.prefix) == wanted
    assert leftovers(place) == []


def test_what_start_up_files_print_does_no_harm(place: Workspace, far: Far, chat: Path) -> None:
    far.set("/usr/bin:/bin", lead="echo welcome; printf 'no line end'; echo motd >&2")
    assert place.pull(f"far:{chat.name}").name == "chat"


def test_busybox_will_do(place: Workspace, far: Far, chat: Path, tmp_path: Path) -> None:
    subprocess.run([BUSYBOX, "--install", "-s", _folder(tmp_path / "busybox")], check=True)
    far.set(str(tmp_path / "busybox"), runner=f"{BUSYBOX} env PATH={tmp_path / 'busybox'}")
    assert place.pull(f"far:{chat.name}").name == "chat"


def test_any_part_can_be_had_at_any_time(far: Far) -> None:
    content = os.urandom(3_000_001)
    (far.home / "-n").write_bytes(content)
    file = ssh.SshFile(parse("far:-n"), 5)
    found: dict[int, bytes] = {}

    def get(start: int) -> None:
        found[start] = b"".join(file.blocks(start, min(700_000, len(content) - start)))

    starts = (0, 1, 65_536, 1_234_567, 2_900_000, 3_000_000)
    threads = [threading.Thread(target=get, args=(start,)) for start in starts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.close()
    assert found == {start: content[start : start + 700_000] for start in starts}


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("far:nothing", "there is no such file"),
        ("far:.", "it is a folder"),
        ("nobody@far:x", "Permission denied.*See whether `ssh far` works"),
        ("ssh://127.0.0.1:1/x", "Connection refused"),
        ("ssh://nowhere.invalid/x", "Could not resolve hostname"),
    ],
)
def test_what_can_not_be_reached_is_said_in_sshs_words(place: Workspace, far: Far, address: str, words: str) -> None:
    with pytest.raises(ArchiveError, match=words):
        place.pull(address)
    assert leftovers(place) == []


def test_a_cut_connection_is_made_again(far: Far, chat: Path) -> None:
    file = ssh.SshFile(parse(f"far:{chat.name}"), 5)
    wanted = chat.read_bytes()
    got = b""
    cuts = 0
    while len(got) < len(wanted):
        blocks = file.blocks(len(got), len(wanted) - len(got))
        try:
            got += next(blocks)
            if cuts < 3:
                far.cut()
            for block in blocks:
                got += block
        except Interrupted:
            cuts += 1
    file.close()
    assert cuts == 3
    assert got == wanted


def test_a_file_that_changes_in_between_is_noticed(place: Workspace, far: Far, chat: Path) -> None:
    file = ssh.SshFile(parse(f"far:{chat.name}"), 5)
    assert len(b"".join(file.blocks(0, 1000))) == 1000
    os.truncate(chat, 500_000)
    with pytest.raises(ArchiveError, match="was changed while it was read"):
        list(file.blocks(600_000, 1000))
    file.close()


def test_a_vanished_server_is_said(
    place: Workspace, small_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with far_side(tmp_path / "gone") as gone:
        monkeypatch.setenv("PATH", f"{tmp_path}/gone/bin:{os.environ['PATH']}")
        shutil.copy(small_archive, gone.home / "chat.tar.zst")
        slow = _folder(tmp_path / "slow") / "dd"
        slow.write_text('#!/bin/sh\nsleep 3\nexec /usr/bin/dd "$@"\n')
        slow.chmod(0o755)
        gone.set(f"{slow.parent}:/usr/bin:/bin")
        threading.Thread(target=gone.vanish_in_use).start()
        with pytest.raises(TransferError, match="can't be reached"):
            place.pull("far:chat.tar.zst")
    assert place.environments() == []


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_machine_without_ssh_is_told_so(place: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArchiveError, match="there is no ssh on this machine"):
        place.pull("far:chat.tar.zst")

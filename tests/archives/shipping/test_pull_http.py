"""``pull`` from web servers of all manners: only what is needed comes, every byte is checked, whole or absent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests import support
from tests.archives.conftest import pack, snapshot
from tests.archives.shipping.conftest import leftovers
from tests.archives.shipping.web import serving
from tests.conftest import RunCommand, program
from trainenv import Workspace, archives
from trainenv.archives.shipping import ahead, patience
from trainenv.channels import credentials
from trainenv.errors import ArchiveError, EnvironmentExistsError, TransferError
from trainenv.progress import SilentReporter

LOGIN = "Basic bWU6c2VjcmV0"  # me:secret


@pytest.fixture
def wanted(place: Workspace, small_archive: Path, tmp_path: Path) -> object:
    """What unpacking the same archive from disk makes at the same prefix."""
    archives.unpack_environment(place.settings, small_archive, name="chat", reporter=SilentReporter())
    made = snapshot(place.settings.prefix_of("chat"))
    place.remove("chat")
    return made


def test_only_what_is_needed_comes_and_several_parts_at_once(
    place: Workspace, www: Path, wanted: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "SEGMENT", 1 << 20)
    with serving(www, rate=20 << 20) as web:
        environment = place.pull(f"{web.url}/chat.tar.zst")
    assert environment.name == "chat"
    assert snapshot(environment.prefix) == wanted
    size = (www / "chat.tar.zst").stat().st_size
    assert web.sent <= size + (3 << 16)
    assert 2 <= web.busiest <= 4
    assert leftovers(place) == []


@pytest.mark.parametrize("format", ["tar.gz", "tar"])
def test_other_formats_come_in_parts_as_well(
    place: Workspace, small: Path, wanted: object, tmp_path: Path, format: str
) -> None:
    pack(small, tmp_path / f"chat.{format}")
    with serving(tmp_path) as web:
        assert snapshot(place.pull(f"{web.url}/chat.{format}").prefix) == wanted
    assert len(web.requests) > 3
    assert leftovers(place) == []


@pytest.mark.parametrize(
    "behaviour",
    [
        {"drop_after": 300_000, "drops": 40},
        {"statuses": [503, 429]},
        {"ranges": False},
        {"ranges": False, "drop_after": 5_000_000, "drops": 2},
        {"ranges": False, "lengths": False},
        {"etag": None},
    ],
    ids=["drops", "busy", "no ranges", "no ranges, drops", "no length", "no etag"],
)
def test_servers_that_make_it_hard(place: Workspace, www: Path, wanted: object, behaviour: dict[str, Any]) -> None:
    with serving(www, **behaviour) as web:
        environment = place.pull(f"{web.url}/chat.tar.zst")
    assert snapshot(environment.prefix) == wanted
    assert leftovers(place) == []


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"statuses": [404]}, "404 .*See whether the address is right"),
        ({"login": LOGIN}, "401 .*Give a login in netrc"),
        ({"statuses": [500] * 9}, "can't be reached: HTTP status 500"),
        ({"shift": 5}, "the server sends other parts than asked for"),
        ({"length": 9_000_000}, "is not a whole trainenv archive|can't be reached any more|other file"),
        ({"length": 99_000_000_000_000}, "can't be reached any more: the connection broke off"),
        ({"silent_after": 70_000}, "can't be reached any more: nothing came for"),
        ({"ranges": False, "silent_after": 70_000}, "can't be reached any more: nothing came for"),
        ({"ranges": False, "drop_after": 70_000, "drops": 99}, "can't be reached any more: the connection broke off"),
        ({"ranges": False, "lengths": False, "drop_after": 70_000, "drops": 99}, "is not a whole trainenv archive"),
        ({"redirect": "ftp://elsewhere"}, "a redirect leads there"),
    ],
)
def test_servers_that_can_not_be_used(
    place: Workspace, www: Path, behaviour: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.settings.root / "trainenv.toml").write_text("read_timeout = 0.3\n")
    place = Workspace(place.settings.root)
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.001)
    with serving(www, **behaviour) as web, pytest.raises(ArchiveError) as caught:
        place.pull(f"{web.url}/chat.tar.zst")
    assert caught.match(words)
    assert place.environments() == []
    if not isinstance(caught.value, TransferError):
        assert leftovers(place) == []


def test_endless_redirects_end(place: Workspace, www: Path) -> None:
    with serving(www) as web, pytest.raises(ArchiveError, match="redirects without end"):
        web.behaviour.redirect = web.url
        place.pull(f"{web.url}/chat.tar.zst")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changes_in_between_is_noticed(place: Workspace, www: Path, ranges: bool) -> None:
    with serving(www, ranges=ranges, drop_after=2_000_000, drops=1) as web:

        def change(number: int) -> None:
            if number == (4 if ranges else 2):
                web.behaviour.etag = '"2"'

        web.behaviour.on_request = change
        with pytest.raises(ArchiveError, match=r"was changed while it was read.*Run the same again"):
            place.pull(f"{web.url}/chat.tar.zst")
        assert place.environments() == []
        assert place.pull(f"{web.url}/chat.tar.zst").name == "chat"


def test_a_spoiled_byte_is_named_and_not_kept(place: Workspace, www: Path) -> None:
    data = bytearray((www / "chat.tar.zst").read_bytes())
    whole = bytes(data)
    data[len(data) // 2] ^= 1
    (www / "chat.tar.zst").write_bytes(data)
    with serving(www) as web:
        with pytest.raises(ArchiveError, match="is damaged: 'share/big"):
            place.pull(f"{web.url}/chat.tar.zst")
        assert (place.environments(), leftovers(place)) == ([], [])
        (www / "chat.tar.zst").write_bytes(whole)
        assert place.pull(f"{web.url}/chat.tar.zst").name == "chat"


@pytest.mark.parametrize("ranges", [True, False])
def test_what_came_before_a_kill_is_not_fetched_again(
    place: Workspace, www: Path, wanted: object, ranges: bool
) -> None:
    """Where the server gives no parts it is sent again, but the same file is gone on with."""
    size = (www / "chat.tar.zst").stat().st_size
    with serving(www, ranges=ranges, rate=4 << 20) as web:
        process = subprocess.Popen(program(place, "pull", f"{web.url}/chat.tar.zst"), stderr=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while web.sent < size * 0.8 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert place.environments() == []
        assert leftovers(place) != []
        time.sleep(0.1)
        before, web.behaviour.rate = web.sent, None
        environment = place.pull(f"{web.url}/chat.tar.zst")
        assert snapshot(environment.prefix) == wanted
        if ranges:
            assert web.sent - before < size * 0.95
    assert leftovers(place) == []


def test_clean_removes_what_nobody_came_back_for(place: Workspace, www: Path) -> None:
    with serving(www, silent_after=1_000_000) as web:
        process = subprocess.Popen(program(place, "pull", f"{web.url}/chat.tar.zst"), stderr=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while not leftovers(place) and time.monotonic() < until:
            time.sleep(0.02)
        assert "broken transfers" not in {item.kind for item in place.clean(dry_run=True)}
        process.kill()
        process.wait()
    place.clean()
    assert leftovers(place) == []


def test_what_was_kept_and_spoiled_is_fetched_again(place: Workspace, www: Path) -> None:
    with serving(www, drop_after=1_000_000, drops=99) as web:
        with pytest.raises(TransferError, match="Run the same again: it goes on from where that happened"):
            # Each part brings a million bytes a try, so only the parts that end before that come whole.
            web.behaviour.on_request = lambda number: setattr(
                web.behaviour, "drop_after", 0 if number > 6 else 3_000_000
            )
            place.pull(f"{web.url}/chat.tar.zst")
        parts = next(place.settings.cache_dir.glob("transfers/*/parts"))
        data = bytearray(parts.read_bytes())
        data[0] ^= 1
        parts.write_bytes(data)
        web.behaviour.drops, web.behaviour.on_request = 0, lambda number: None
        assert place.pull(f"{web.url}/chat.tar.zst").name == "chat"


def test_two_at_once_and_only_one_environment(place: Workspace, www: Path) -> None:
    with serving(www, rate=20 << 20) as web:
        both = [
            subprocess.Popen(program(place, "pull", f"{web.url}/chat.tar.zst"), stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        said = [process.communicate(timeout=60)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert any("chat" in text and "error:" in text for text in said)
    assert [each.name for each in place.environments()] == ["chat"]
    assert leftovers(place) == []


def test_what_the_machine_lacks_is_said_before_anything_is_fetched(
    place: Workspace, www: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with serving(www) as web, pytest.raises(ArchiveError, match=r"can't be used here.*disk space"):
        place.pull(f"{web.url}/chat.tar.zst")
    assert web.sent < 1 << 18


def test_a_name_that_is_taken_is_said_before_anything_is_fetched(place: Workspace, www: Path) -> None:
    with serving(www) as web:
        place.pull(f"{web.url}/chat.tar.zst", "other")
        before = web.sent
        with pytest.raises(EnvironmentExistsError):
            place.pull(f"{web.url}/chat.tar.zst", "other")
        assert web.sent - before < 1 << 18


def test_logins_come_from_netrc_the_settings_and_the_address_and_go_to_no_other_host(
    place: Workspace, www: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(www, login=LOGIN) as web, serving(www) as other:
        place.pull(f"{web.url.replace('://', '://me:secret@')}/chat.tar.zst", "by_address")
        (own_home / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
        place.pull(f"{web.url}/chat.tar.zst", "by_netrc")
        (own_home / ".netrc").unlink()
        monkeypatch.setenv("SECRET", "secret")
        table = f'[credentials."{web.host}"]\nusername = "me"\npassword_env = "SECRET"\n'
        (place.settings.root / "trainenv.toml").write_text(table)
        place = Workspace(place.settings.root)
        place.pull(f"{web.url}/chat.tar.zst", "by_settings")
        web.behaviour.redirect = other.url
        place.pull(f"{web.url}/chat.tar.zst", "redirected")
        assert {authorization for _, _, authorization in other.requests} == {""}
    assert support.holders_of_secret("secret", place.settings.envs_dir, place.settings.cache_dir) == []
    assert "secret" not in "".join(capfd.readouterr())


def test_a_login_from_the_keyring_is_asked_for_when_the_server_asks(
    place: Workspace, www: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = credentials.Credential("me", "secret", "keyring")
    monkeypatch.setattr(credentials, "_from_keyring", lambda host, username: known)
    with serving(www, login=LOGIN) as web:
        assert place.pull(f"{web.url}/chat.tar.zst").name == "chat"


def test_through_a_proxy(place: Workspace, www: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This proxy knows nothing of parts, so the file comes whole."""
    with serving(www) as web, support.proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert place.pull(f"{web.url}/chat.tar.zst").name == "chat"
        assert proxy.requests[0][0] == f"{web.url}/chat.tar.zst"
        asked = len(proxy.requests)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        place.pull(f"{web.url}/chat.tar.zst", "direct")
        assert len(proxy.requests) == asked


def test_over_tls_with_roots_of_ones_own(
    place: Workspace, www: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, certificate = support.make_certificate(tmp_path / "tls")
    with serving(www, certificate) as web:
        with pytest.raises(ArchiveError, match=r"can't be trusted: .*certificate.*ssl_cert_file"):
            place.pull(f"{web.url}/chat.tar.zst")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert place.pull(f"{web.url}/chat.tar.zst").name == "chat"


def test_offline_nothing_is_asked(place: Workspace, www: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINENV_OFFLINE", "1")
    with serving(www) as web, pytest.raises(ArchiveError, match="trainenv is offline"):
        Workspace(place.settings.root).pull(f"{web.url}/chat.tar.zst")
    assert web.requests == []


def test_what_is_no_archive_is_said_by_its_address(place: Workspace, www: Path) -> None:
    (www / "page").write_text("\n<html>please log in</html>")
    (www / "empty").touch()
    (www / "noise").write_bytes(bytes(100))
    words = {"page": "is a web page", "empty": "is not a trainenv archive", "noise": "is not a trainenv archive"}
    with serving(www) as web:
        for name, said in words.items():
            with pytest.raises(ArchiveError, match=f"{web.url}/{name} {said}"):
                place.pull(f"{web.url}/{name}")
    assert leftovers(place) == []


def test_an_archive_of_conda_pack_comes_whole(place: Workspace, www: Path, small: Path) -> None:
    names = ("conda-meta", "share/empty", "share/big.txt")
    subprocess.run(["tar", "-czf", www / "tabular.tar.gz", "-C", small, *names], check=True)
    with serving(www) as web:
        assert place.pull(f"{web.url}/tabular.tar.gz").name == "tabular"
    assert leftovers(place) == []


def test_inspect_reads_only_the_end(place: Workspace, www: Path, trainenv: RunCommand) -> None:
    with serving(www) as web:
        done = trainenv(place, "inspect", f"{web.url}/chat.tar.zst", "--json")
        shown = json.loads(done.stdout)
        assert (shown["name"], shown["path"]) == ("chat", f"{web.url}/chat.tar.zst")
        assert shown["bytes"] == (www / "chat.tar.zst").stat().st_size
        assert web.sent < 1 << 18
        assert trainenv(place, "inspect", f"{web.url}/chat.tar.zst", "--verify").returncode == 0
    assert leftovers(place) == []


def test_memory_stays_bounded(place: Workspace, tmp_path: Path) -> None:
    """300 MB that can't be compressed, from a server that sends faster than a disk writes."""
    prefix = tmp_path / "a"
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "conda-meta/history").touch()
    for number in range(30):
        (prefix / f"{number}.bin").write_bytes(os.urandom(10 << 20))
    archives.pack(prefix, tmp_path / "a.tar.zst", name="chat", reporter=SilentReporter())
    text = (
        "import sys; from trainenv import Workspace; Workspace(sys.argv[1]).pull(sys.argv[2]);"
        "print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')))"
    )
    with serving(tmp_path) as web:
        command = [sys.executable, "-c", text, str(place.settings.root), f"{web.url}/a.tar.zst"]
        assert int(subprocess.check_output(command)) * 1024 < 200 << 20

"""What an address means, and which ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainenv.archives.shipping.addresses import is_remote, parse
from trainenv.errors import UsageError


@pytest.mark.parametrize(
    ("text", "user", "host", "port", "path"),
    [
        ("ssh://gpu7/srv/chat.tar.zst", None, "gpu7", None, "/srv/chat.tar.zst"),
        ("ssh://Ada@GPU7:2222/srv/a%20b", "Ada", "GPU7", 2222, "/srv/a b"),
        ("ssh://ada@[::1]:22/~/chat", "ada", "::1", 22, "chat"),
        ("ssh://gpu7", None, "gpu7", None, ""),
        ("gpu7:archives/chat.tar.zst", None, "gpu7", None, "archives/chat.tar.zst"),
        ("ada@gpu7:/srv/chat", "ada", "gpu7", None, "/srv/chat"),
        ("ada@[fe80::1%eth0]:~/chat", "ada", "fe80::1%eth0", None, "chat"),
    ],
)
def test_ssh_addresses(text: str, user: str | None, host: str, port: int | None, path: str) -> None:
    address = parse(text)
    assert (address.kind, address.user, address.host, address.port, address.path) == ("ssh", user, host, port, path)
    assert is_remote(text)


@pytest.mark.parametrize(
    ("text", "kind", "path"),
    [
        ("https://me:pw@host/a/chat.tar.zst?x=1", "http", "/a/chat.tar.zst"),
        ("HTTP://host/chat", "http", "/chat"),
        ("file:///srv/a%20b", "file", "/srv/a b"),
        ("s3://bucket/chat.tar.zst", "other", "/chat.tar.zst"),
        ("zip://chat.tar.zst::https://host/all.zip", "other", ""),
        ("/srv/chat.tar.zst", "file", "/srv/chat.tar.zst"),
    ],
)
def test_other_addresses(text: str, kind: str, path: str) -> None:
    assert (parse(text).kind, parse(text).path) == (kind, path)


def test_no_message_shows_a_password() -> None:
    assert parse("https://me:secret@host/t/token/chat").name == "https://host/chat"
    assert "secret" not in parse("ssh://me:secret@host/chat").name


def test_a_file_whose_name_has_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_remote("host:chat")
    (tmp_path / "host:chat").touch()
    assert not is_remote("host:chat")
    assert parse("host:chat").kind == "file"


@pytest.mark.parametrize(
    "text",
    [
        "ssh://-oProxyCommand=touch${IFS}x/y",
        "-oProxyCommand=x:y",
        "ssh://-l@host/y",
        "ssh:///srv",
        "http://",
        "http://host:port/x",
        "file://elsewhere/x",
        "ssh://host/~other/x",
        "ssh://host/a%0Ab",
        "",
    ],
)
def test_addresses_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)

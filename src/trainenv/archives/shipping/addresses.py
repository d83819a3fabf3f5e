"""What an address says: how to get there, and what is there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import unquote, urlsplit

from trainenv.credentials import without_credentials
from trainenv.errors import UsageError

Kind = Literal["http", "ssh", "file", "other"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::|://)")
_SCP = re.compile(r"(?P<host>(?:[^/:\s]+@)?(?:\[[0-9A-Fa-f:.%\w]+\]|[^/:\s\[]+)):(?P<path>.*)")
_SSH_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\\+-]*\Z|[0-9A-Fa-f:]+(%\w+)?\Z")


@dataclass(frozen=True)
class Address:
    """``text`` is as it was given and may hold a secret, ``name`` is for messages.

    ``path`` is where it lies there: for ``ssh`` absolute, or relative to the user's home folder there.
    """

    kind: Kind
    text: str
    name: str
    path: str
    host: str = ""
    user: str | None = None
    port: int | None = None

    @property
    def file_name(self) -> str:
        """The last part of the path, empty for a folder that is named with a slash at its end."""
        if self.kind == "other":
            return unquote(self.text.partition("::")[0].rpartition("/")[2])
        return (unquote(self.path) if self.kind == "http" else self.path).rpartition("/")[2]

    def with_suffix(self, suffix: str) -> Address:
        """The file beside it whose name is longer by ``suffix``."""
        if self.kind == "http":
            parts = urlsplit(self.text)
            return parse(parts._replace(path=parts.path + suffix).geturl())
        return replace(self, text=self.text + suffix, name=self.name + suffix, path=self.path + suffix)


def is_remote(text: str) -> bool:
    """Whether ``text`` is an address rather than a path of this machine."""
    return bool(_SCHEME.match(text)) or _is_scp(text)


def parse(text: str) -> Address:
    """What ``text`` means: a URL, ``[user@]host:path`` as scp has it, or a path. Raises ``UsageError``."""
    if not text:
        raise UsageError("an empty address names no place", hint="Give a URL, HOST:PATH or a path")
    if not _SCHEME.match(text):
        if _is_scp(text):
            return _scp(text)
        return Address("file", text, text, os.path.abspath(os.path.expanduser(text)))
    if "::" in re.sub(r"\[[^]]*\]", "", text):
        return Address("other", text, without_credentials(text), "")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{without_credentials(text)!r} is no address", cause=str(error)) from None
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https", "ssh", "file"):
        return Address("other", text, without_credentials(text), parts.path)
    if scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise UsageError(f"{text!r} names no file of this machine", hint="Write file:///PATH")
        return Address("file", text, unquote(parts.path), unquote(parts.path))
    if not parts.hostname:
        raise UsageError(f"{without_credentials(text)!r} names no host")
    if scheme == "ssh":
        path = unquote(parts.path)
        path = path[1:] if path.startswith("/~") else path
        # ``parts.hostname`` is in lower case, and ssh's settings may say more of a name as it is written.
        host = re.sub(r":\d*$", "", parts.netloc.rpartition("@")[2]).strip("[]")
        return _ssh(text, host, unquote(parts.username) if parts.username else None, port, path)
    return Address("http", text, without_credentials(text), parts.path, parts.netloc.rpartition("@")[2])


def _is_scp(text: str) -> bool:
    return bool(_SCP.fullmatch(text)) and not os.path.lexists(text)


def _scp(text: str) -> Address:
    found = _SCP.fullmatch(text)
    assert found is not None
    user, _, host = found["host"].rpartition("@")
    return _ssh(text, host.strip("[]"), user or None, None, found["path"])


def _ssh(text: str, host: str, user: str | None, port: int | None, path: str) -> Address:
    """A word that begins with ``-`` would be an option to ssh, which may run programs."""
    for word in (host, user):
        if word is not None and not _SSH_WORD.match(word):
            raise UsageError(f"{without_credentials(text)!r} is no address", cause=f"{word!r} is no host or user")
    if "\0" in path or "\n" in path:
        raise UsageError(f"{without_credentials(text)!r} is no address", cause="its path has a line break")
    if path == "~" or path.startswith("~/"):
        path = path[2:]
    elif path.startswith("~"):
        raise UsageError(f"{without_credentials(text)!r} can't be reached", hint="Write the whole path, or /~/PATH")
    return Address("ssh", text, without_credentials(text), path, host, user, port)

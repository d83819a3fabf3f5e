"""What py-rattler says when it can't read a channel or install a package, in words for a user."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from trainenv.channels.access import Access
from trainenv.errors import ChannelError, DiskFullError, InstallError


def one_line(text: str) -> str:
    """``text`` of several lines, a tree or a chain of causes as one sentence."""
    text = " ".join(text.replace("├─", "").replace("└─", "").replace("│", "").split())
    return re.sub(r"\.? Caused by: ", ": ", text)


def silent(who: str, access: Access) -> ChannelError:
    """The error for a server that has not sent a byte for too long."""
    return ChannelError(
        f"{who} stopped answering",
        cause=f"nothing came for {access.read_timeout:g} s",
        hint="Nothing was changed. Try again; read_timeout in trainenv.toml allows more seconds",
    )


def channel_hint(reason: str, access: Access) -> str:
    """What to do about a channel that can't be read for ``reason``."""
    if access.offline:
        return "Offline, only what the cache has can be used; go online once, or name a mirror folder"
    if refused := re.search(r"\b40[13]\b[^\n]*? for url \(([^\s)]+)\)", reason):
        return _refused_hint(refused[1], access)
    return "Check its name; mirrors can be named in trainenv.toml under [mirrors]"


def _refused_hint(url: str, access: Access) -> str:
    host = urlsplit(url).netloc.rpartition("@")[2]
    if (known := access.credentials.find(host)) and known.secret:
        return f"It was told the user and password of {known.source}: correct them there, or ask who runs it for access"
    return f'Say who you are to its host in [credentials."{host}"] of trainenv.toml, in ~/.netrc, or in your keyring'


def install_error(text: str, access: Access, folder: Path) -> InstallError:
    """The error for ``text``, with which an installation below ``folder`` ended."""
    causes = [access.public(one_line(part)).strip(" .") for part in text.split("Caused by:")]
    text = ": ".join(causes)
    if "No space left" in text or "os error 28" in text:
        return DiskFullError(
            f"no space left on the disk of {folder}", cause=text, hint="Free some; nothing was changed"
        )
    package = re.match(r"failed to fetch ([^\s:]+)", text)
    if package is None:
        return InstallError("a conda package could not be installed", cause=text, hint="Nothing was changed; try again")
    if refused := re.search(r"\b40[13]\b[^\n]*? for url \(([^\s)]+)\)", text):
        return InstallError(
            f"package {package[1]} was refused", cause=causes[-1], hint=_refused_hint(refused[1], access)
        )
    if found := re.search(r"hash mismatch when extracting (\S+) .*expected (\w+), got (\w+)", text):
        kind = "sha256" if len(found[2]) == 64 else "md5"
        return InstallError(
            f"package {package[1]} is not the one that its channel, or the lock, lists",
            cause=f"what came from {found[1]} has the {kind} hash {found[3]} in place of {found[2]}",
            hint="Nothing was changed; try again later, or tell who runs the channel",
        )
    cause = _shortened(causes[1:])
    if "an io error occurred" in text and "response body" not in text:
        cause = f"what came can't be unpacked ({cause})"
    return InstallError(
        f"package {package[1]} could not be fetched",
        cause=cause,
        hint="Nothing was changed; try again, or name a mirror in trainenv.toml under [mirrors]",
    )


def _shortened(causes: list[str]) -> str:
    """The causes without those that only say that a part of py-rattler failed, or what the next one says."""
    told = [re.sub(r"^an io error occurred: ", "", cause) for cause in causes if "cache layer" not in cause]
    following = [*told[1:], ""]
    kept = [cause for cause, after in zip(told, following, strict=True) if not after or after not in cause]
    return ": ".join(dict.fromkeys(kept)) or "py-rattler gives no reason"

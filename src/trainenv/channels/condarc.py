"""``.condarc``: what the user told conda of channels, mirrors and the network, where ``trainenv.toml`` says nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainenv.errors import UsageError
from trainenv.settings import Settings

_HONOURED = (
    "channels",
    "channel_alias",
    "channel_priority",
    "custom_channels",
    "default_channels",
    "offline",
    "remote_read_timeout_secs",
    "proxy_servers",
    "ssl_verify",
)

_PRIORITIES = {
    "strict": "strict",
    "flexible": "flexible",
    "true": "flexible",
    "disabled": "disabled",
    "false": "disabled",
}


@dataclass(frozen=True)
class Condarc:
    """What all files together say. ``origin`` is by key the file that had the last word."""

    values: Mapping[str, Any]
    origin: Mapping[str, Path]


def find_files() -> list[Path]:
    """The files that conda and mamba would read, least important first."""
    configuration = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    candidates = [
        "/etc/conda/.condarc",
        "/etc/conda/condarc",
        "/var/lib/conda/.condarc",
        f"{configuration}/conda/.condarc",
        "~/.conda/.condarc",
        "~/.condarc",
        "~/.mambarc",
        os.environ.get("CONDARC", ""),
    ]
    return [file for text in candidates if text and (file := Path(text).expanduser()).is_file()]


def read() -> Condarc:
    """What the user's files say. Raises ``UsageError`` for one that can't be read."""
    values: dict[str, Any] = {}
    origin: dict[str, Path] = {}
    for file in find_files():
        for key, value in read_file(file).items():
            if key in _HONOURED and value is not None:
                values[key] = value
                origin[key] = file
    return Condarc(values, origin)


def applied(settings: Settings) -> Settings:
    """``settings``, and what the user's ``.condarc`` says on what they leave open."""
    found = read()
    return replace(settings, **dict(_changes(settings, found))) if found.values else settings


def _changes(settings: Settings, found: Condarc) -> Iterator[tuple[str, Any]]:
    values = found.values
    if "channels" in values and "channels" not in settings.stated:
        names = [str(name) for name in _list(found, "channels")]
        defaults = [str(name) for name in _list(found, "default_channels")] or ["defaults"]
        spread = [one for name in names for one in (defaults if name == "defaults" else [name])]
        yield "channels", tuple(dict.fromkeys(spread))
    if "channel_alias" in values and "channel_alias" not in settings.stated:
        yield "channel_alias", f"{str(values['channel_alias']).rstrip('/')}/"
    if (priority := _PRIORITIES.get(str(values.get("channel_priority")).lower())) and (
        "channel_priority" not in settings.stated
    ):
        yield "channel_priority", priority
    if custom := _mapping(found, "custom_channels"):
        mirrors = {str(name): (f"{str(base).rstrip('/')}/{name}",) for name, base in custom.items()}
        yield "mirrors", {**mirrors, **settings.mirrors}
    if (proxies := _mapping(found, "proxy_servers")) and "proxy" not in settings.stated:
        yield "proxies", {str(scheme): str(url) for scheme, url in proxies.items() if url and "://" not in str(scheme)}
    seconds = values.get("remote_read_timeout_secs")
    if isinstance(seconds, (int, float)) and seconds > 0 and "read_timeout" not in settings.stated:
        yield "read_timeout", float(seconds)
    if values.get("offline") is True and "offline" not in settings.stated:
        yield "offline", True
    if (
        isinstance(roots := values.get("ssl_verify"), str)
        and os.sep in roots
        and "ssl_cert_file" not in settings.stated
        and not os.environ.get("SSL_CERT_FILE")
        and not os.environ.get("REQUESTS_CA_BUNDLE")
    ):
        yield "ssl_cert_file", Path(roots).expanduser()


def read_file(file: Path) -> dict[str, Any]:
    """What one file says. Raises ``UsageError`` if it can't be read."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(os.path.expandvars(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{file} can't be read", cause=error.strerror or str(error)) from None
    except (YAMLError, UnicodeDecodeError):
        # What a parser says of it would quote lines, and with them secrets.
        raise UsageError(f"{file} is not valid YAML", hint="Mend the file") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{file} is not a mapping of settings", hint="Mend the file")
    return content


def _list(found: Condarc, key: str) -> list[Any]:
    value = found.values.get(key) or []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise UsageError(f"{key} in {found.origin[key]} must be a list")
    return value


def _mapping(found: Condarc, key: str) -> dict[Any, Any]:
    value = found.values.get(key) or {}
    if not isinstance(value, dict):
        raise UsageError(f"{key} in {found.origin[key]} must be a mapping")
    return value

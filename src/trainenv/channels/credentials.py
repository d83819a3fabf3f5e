"""Who one is to a host: user names, passwords and tokens, kept out of everything that is written.

A secret may stand in the address of a channel or index (``https://user:pw@host/…``,
``https://host/t/TOKEN/…``), in ``~/.netrc``, in a variable or a keyring that ``trainenv.toml``
names. It stays in memory: what is written holds the public address (``trainenv.credentials``).
"""

from __future__ import annotations

import base64
import json
import netrc
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

from trainenv.credentials import without_credentials
from trainenv.errors import UsageError

KEYRING_SECONDS = 10.0
"""A keyring may ask its user to unlock it; without a user it must not hold everything up."""

_TOKEN_USER = "__token__"
_TOKEN = re.compile(r"(https?://\S+?)/t/([^/]+)")
_ADDRESS = re.compile(r"https?://[^\s'\"<>]+")
_KEYS = {"username", "username_env", "password_env", "token_env", "keyring"}


def addresses_in(text: str) -> list[str]:
    """The http addresses that stand in ``text``, with their secrets."""
    return _ADDRESS.findall(text)


@dataclass(frozen=True)
class Credential:
    """What to tell one host. ``username`` empty means a bearer token; ``source`` says where it stood."""

    username: str
    secret: str = field(repr=False)
    source: str

    @property
    def header(self) -> str:
        """The value of the ``Authorization`` header."""
        return self.basic_header if self.username else f"Bearer {self.secret}"

    @property
    def basic_header(self) -> str:
        """The same for those that know no bearer tokens; a token's user is ``__token__``."""
        user = self.username or _TOKEN_USER
        return f"Basic {base64.b64encode(f'{user}:{self.secret}'.encode()).decode()}"


class Credentials:
    """The credentials of one command: found when a host is first asked about, kept in memory only.

    ``table`` is ``[credentials]`` of ``trainenv.toml`` by host (with or without port), ``addresses``
    are all that may carry secrets themselves. Looked up in the order: address, table, netrc.
    """

    def __init__(self, table: Mapping[str, Mapping[str, object]] | None = None, addresses: Iterable[str] = ()) -> None:
        self._table = table or {}
        self._known: dict[str, Credential | None] = {}
        self._netrc = _read_netrc()
        self.tokens: dict[str, str] = {}
        self.token_opens_index = False
        self._bases: dict[str, str] = {}
        self._users: dict[str, str] = {}
        self._addresses: dict[str, list[str]] = {}
        self._tokens_alone: set[str] = set()
        for address in addresses:
            self.learn(address)

    def learn(self, address: str) -> str:
        """Keep the secrets that ``address`` carries. Returns it without them.

        ``tokens`` then maps the public address to the one with the token in its path; both end in ``/``.
        """
        clean = without_credentials(address)
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return clean
        for host in {_host_of(address), parts.hostname}:
            self._addresses.setdefault(host, []).append(clean)
            if parts.password:
                self._known[host] = Credential(unquote(parts.username or ""), unquote(parts.password), "its address")
            elif parts.username:
                self._users[host] = unquote(parts.username)
        without_user = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        if token := _TOKEN.match(without_user):
            self.tokens[f"{clean.rstrip('/')}/"] = f"{without_user.rstrip('/')}/"
            self._bases[f"{token[1]}/"] = f"{token[0]}/"
            self._tokens_alone.add(token[2])
        return clean

    def learn_index(self, address: str) -> None:
        """``learn``, for the index or place of PyPI packages at ``address``."""
        before = len(self.tokens)
        self.learn(address)
        self.token_opens_index |= len(self.tokens) > before

    def with_token(self, address: str) -> str:
        """The public ``address`` as its host wants it, with the token of its channel or index in the path."""
        for tokens in (self.tokens, self._bases):
            for clean, secret in tokens.items():
                if address.startswith(clean):
                    return secret + address[len(clean) :]
        return address

    def find(self, host: str) -> Credential | None:
        """What to tell ``host`` (``name`` or ``name:port``), None if nothing is known."""
        if host not in self._known:
            self._known[host] = self._look_up(host)
        return self._known[host]

    def ask_keyring(self, host: str) -> Credential | None:
        """``find``, and if that has no secret the user's keyring: for a host that asked who we are."""
        found = self.find(host)
        if found is None or not found.secret:
            asked = _from_keyring(self._services(host), found.username if found else None)
            found = self._known[host] = self._known[host.partition(":")[0]] = asked or found
        return found

    @property
    def secrets(self) -> set[str]:
        """Every secret found so far, as words that no output may hold; a user name alone may be a token."""
        known = {found.secret or found.username for found in self._known.values() if found}
        return self._tokens_alone | known - {""}

    def known_hosts(self) -> dict[str, Credential]:
        """All hosts that something is known for, of every source, for ``netrc`` and ``doctor``."""
        hosts = {*self._table, *(self._netrc.hosts if self._netrc else ()), *self._known} - {"default"}
        return {host: found for host in sorted(hosts) if (found := self.find(host))}

    def as_netrc(self) -> str:
        """All of them in the form that programs read from ``NETRC``; a token's user is ``__token__``."""
        lines = []
        for host, found in self.known_hosts().items():
            if found.secret and ":" not in host and not re.search(r"\s", found.username + found.secret):
                lines.append(f"machine {host} login {found.username or _TOKEN_USER} password {found.secret}")
        if self._netrc and (default := self._netrc.hosts.get("default")):
            lines.append(f"default login {default[0]} password {default[2]}")
        return "".join(f"{line}\n" for line in lines)

    def _look_up(self, host: str) -> Credential | None:
        name = host.partition(":")[0]
        user = self._users.get(host)
        keys = [key for key in (host, name) if key in self._table]
        if not keys and ":" not in host:
            keys = [key for key in self._table if key.partition(":")[0] == host]
        if keys:
            entry = {"username": user, **self._table[keys[0]]} if user else self._table[keys[0]]
            return _from_table(keys[0], entry, self._services(keys[0]))
        if self._netrc and (found := self._netrc.authenticators(name)) and (not user or user == found[0]):
            return Credential(found[0] or found[1] or "", found[2] or "", "netrc")
        return Credential(user, "", "its address") if user else None

    def _services(self, host: str) -> list[str]:
        """Under which names a keyring may know ``host``: alone, as an address, as pip asks for an index."""
        addresses = [address.rstrip("/") for address in self._addresses.get(host, ())]
        schemes = sorted({urlsplit(address).scheme for address in addresses} or {"https"}, reverse=True)
        bases = [f"{scheme}://{host}" for scheme in schemes]
        return list(dict.fromkeys([host, *bases, *addresses, *(f"{address}/" for address in addresses)]))


def _host_of(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def netrc_file() -> Path | None:
    """The netrc file of the user, None if there is none."""
    named = os.environ.get("NETRC")
    file = Path(named).expanduser() if named else Path("~/.netrc").expanduser()
    return file if file.is_file() else None


def _read_netrc() -> netrc.netrc | None:
    file = netrc_file()
    if file is None:
        return None
    try:
        return netrc.netrc(file)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"line {getattr(error, 'lineno', '?')}"
        hint = "Mend the file, or name another in NETRC"
        raise UsageError(f"{file} can't be read", cause=str(reason), hint=hint) from None


def _from_table(host: str, entry: Mapping[str, object], services: Sequence[str]) -> Credential | None:
    if unknown := sorted(set(entry) - _KEYS):
        raise UsageError(
            f'[credentials."{host}"] has an unknown key {unknown[0]!r}',
            cause="a password or token itself never stands in trainenv.toml"
            if unknown[0] in ("password", "token")
            else "",
            hint=f"Known are: {', '.join(sorted(_KEYS))}",
        )

    def variable(key: str) -> str | None:
        name = entry.get(key)
        if name is None:
            return None
        value = os.environ.get(str(name))
        if not value:
            raise UsageError(
                f"the variable {name} is not set", cause=f'{key} of [credentials."{host}"] names it', hint=f"Set {name}"
            )
        return value

    username = variable("username_env") or str(entry.get("username") or "")
    if token := variable("token_env"):
        return Credential(username, token, f"variable {entry['token_env']}")
    if password := variable("password_env"):
        return Credential(username, password, f"variable {entry['password_env']}")
    return _from_keyring(services, username or None)


def _from_keyring(services: Sequence[str], username: str | None) -> Credential | None:
    """From the ``keyring`` module where it is installed, else from the program of that name.

    The program may know more than the module beside trainenv: its backends are installed where it is.
    """
    with suppress(ImportError):
        keyring = import_module("keyring")
        for service in services:
            with suppress(Exception):  # Backends raise what they like; a keyring that fails holds nothing.
                if found := keyring.get_credential(service, username):
                    return Credential(found.username or _TOKEN_USER, found.password, "keyring")
    return _from_keyring_program(services, username)


def _from_keyring_program(services: Sequence[str], username: str | None) -> Credential | None:
    program = shutil.which("keyring")
    if program is None or os.path.dirname(program) == os.path.dirname(sys.executable):
        return None
    for service in services:
        command = [program, "--mode", "creds", "--output", "json", "get", service, *([username] if username else [])]
        with suppress(OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=KEYRING_SECONDS, check=False
            )
            if done.returncode == 0:
                answer = json.loads(done.stdout)
                return Credential(answer["username"] or _TOKEN_USER, answer["password"], "keyring")
    return None

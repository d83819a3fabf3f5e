"""What is in force of channels and network, where each came from, and whether it works: found by trying."""

from __future__ import annotations

import os
import re
import ssl
import tempfile
import urllib.error
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Literal
from urllib.parse import unquote, urlsplit

from trainenv.channels import conda, condarc
from trainenv.channels.access import Access, trusted_roots
from trainenv.channels.credentials import netrc_file
from trainenv.channels.pypi import learn_indexes, named_indexes, run_uv, uv_options
from trainenv.credentials import without_credentials
from trainenv.errors import TrainenvError
from trainenv.settings import Settings

Observation = tuple[str, Literal["ok", "warning", "error"], str]
"""What was looked at, how it is, and that in words."""


@dataclass(frozen=True)
class ChannelState:
    """One address of a channel in force. ``problem`` is None when it answers as a channel does.

    ``origin`` says who named the channel; ``mirror`` that the address stands in for it;
    ``credentials`` where those for its host came from, None without.
    """

    name: str
    url: str
    mirror: bool
    origin: str
    problem: str | None
    credentials: str | None

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def channels(settings: Settings) -> list[ChannelState]:
    """The channels that a ``create`` without ``-c`` uses, each with every address that it tries."""
    own = condarc.applied(settings)
    access = Access.of(own)
    origin = _origin(settings)
    asked = [(without_credentials(name), source) for name in own.channels for source in _addresses(own, name, access)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        problems = list(pool.map(lambda item: _problem(item[1], access), asked))
    return [
        ChannelState(
            name,
            source.url,
            bool(own.mirrors.get(name) or own.mirrors.get(source.url)),
            origin,
            problem,
            _who(source.url, access),
        )
        for (name, source), problem in zip(asked, problems, strict=True)
    ]


def _addresses(settings: Settings, name: str, access: Access) -> list[conda.Source]:
    if name == conda.HOST:
        return [conda.Source(conda.HOST, f"{(settings.cache_dir / 'host').as_uri()}/")]
    return conda.addresses_of(settings, without_credentials(name), access)


def _origin(settings: Settings) -> str:
    if os.environ.get("TRAINENV_CHANNELS"):
        return "variable TRAINENV_CHANNELS"
    if "channels" in settings.stated:
        return str(settings.file)
    return str(condarc.read().origin.get("channels", "default"))


def _who(url: str, access: Access) -> str | None:
    if url.startswith("file:"):
        return None
    if any(url.startswith(clean) for clean in access.credentials.tokens):
        return "its address"
    found = access.credentials.find(urlsplit(url).netloc)
    return found.source if found else None


def _problem(source: conda.Source, access: Access) -> str | None:
    if source.name == conda.HOST or access.offline:
        return None
    if source.is_local:
        return conda.probe(source.url, access)
    return _status(f"{source.url}noarch/repodata.json", access)


def _status(url: str, access: Access) -> str | None:
    """Why ``url`` can't be read, None when it can."""
    try:
        access.opener().open(access.request(url, method="HEAD"), timeout=conda.PROBE_SECONDS).close()
    except TrainenvError as error:
        return access.public(str(error))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return f"it wants to know who you are (HTTP status {error.code})"
        return f"HTTP status {error.code} {error.reason}" if error.code != 405 else None
    except (OSError, ValueError) as error:
        return access.public(str(getattr(error, "reason", error)))
    return None


def observations(settings: Settings) -> Iterator[Observation]:
    """What this machine and user say of channels and network, each tried; for ``trainenv doctor``.

    All are tried at once: behind a dead proxy each would have to be waited for.
    """
    looks = (_condarc, _secrets, _roots, _proxies, _offline, _channels, _indexes)
    with ThreadPoolExecutor(max_workers=len(looks)) as pool:
        for found in [pool.submit(_observed, look, settings) for look in looks]:
            yield from found.result()


def _observed(look: Callable[[Settings], Iterator[Observation]], settings: Settings) -> list[Observation]:
    try:
        return list(look(settings))
    except TrainenvError as error:
        return [(look.__name__.strip("_"), "error", str(error))]


def _condarc(settings: Settings) -> Iterator[Observation]:
    found = condarc.read()
    if not found.values:
        return
    heard = [key for key in found.values if key not in settings.stated]
    files = ", ".join(str(file) for file in dict.fromkeys(found.origin.values()))
    yield "condarc", "ok", f"{files}: {', '.join(sorted(heard)) or 'nothing'} used, trainenv.toml has the last word"
    if found.values.get("ssl_verify") is False:
        text = "ssl_verify: false is not followed; name the roots to trust in ssl_cert_file instead"
        yield "condarc", "warning", text


def _secrets(settings: Settings) -> Iterator[Observation]:
    access = Access.of(condarc.applied(settings))
    if file := netrc_file():
        shared = file.stat().st_mode & 0o077
        hosts = sum(found.source == "netrc" for found in access.credentials.known_hosts().values())
        text = f"{file} knows {hosts} host{'s' * (hosts != 1)}"
        if shared:
            text += f"; others can read it: chmod 600 {file}"
        yield "netrc", "warning" if shared else "ok", text
    for host in settings.credentials:
        try:
            found = access.credentials.find(host)
        except TrainenvError as error:
            yield "credentials", "error", str(error)
            continue
        missing = "the keyring has nothing for it"
        if not settings.credentials[host].keys() & {"username", "username_env"}:
            missing += "; some keyrings answer only who names a user: username = … there"
        text = f"{host}: {found.source if found else missing}"
        yield "credentials", "ok" if found else "error", text
    if find_spec("keyring") or which("keyring"):
        yield "keyring", "ok", "asked for hosts that want to know who you are"


def _roots(settings: Settings) -> Iterator[Observation]:
    named = trusted_roots(condarc.applied(settings))
    source = "ssl_cert_file" if named and settings.ssl_cert_file else "REQUESTS_CA_BUNDLE" if named else "SSL_CERT_FILE"
    if named is None and os.environ.get("SSL_CERT_FILE"):
        named = Path(os.environ["SSL_CERT_FILE"])
    if named is None:
        return
    try:
        count = len(ssl.create_default_context(cafile=str(named)).get_ca_certs())
        yield "certificates", "ok", f"{count} roots in {named} ({source})"
    except (OSError, ssl.SSLError) as error:
        yield "certificates", "error", f"{named} ({source}) can't be used: {error.strerror or error}"


def _proxies(settings: Settings) -> Iterator[Observation]:
    import socket
    import urllib.request

    own = condarc.applied(settings)
    found = {scheme: (url, "variable") for scheme, url in urllib.request.getproxies().items() if scheme != "no"}
    found |= {scheme: (url, "proxy setting") for scheme, url in own.proxies.items()}
    for url, source in dict.fromkeys(found.values()):
        parts = urlsplit(url if "://" in url else f"http://{url}")
        schemes = ", ".join(sorted(scheme for scheme, named in found.items() if named == (url, source)))
        text = f"{without_credentials(parts.geturl())} for {schemes} ({source})"
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), timeout=conda.PROBE_SECONDS).close()
            yield "proxy", "ok", text
        except (OSError, ValueError) as error:
            yield "proxy", "error", f"{text} does not answer: {error}"


def _offline(settings: Settings) -> Iterator[Observation]:
    if condarc.applied(settings).offline:
        yield "offline", "warning", "nothing is sent: only what the caches have can be used"


def _channels(settings: Settings) -> Iterator[Observation]:
    for state in channels(settings):
        if state.name == conda.HOST:
            continue
        who = f", as {state.credentials} says" if state.credentials else ""
        if state.problem is None:
            yield "channel", "ok", f"{state.name} answers at {state.url}{who} ({state.origin})"
        else:
            stand_in = "; the host channel stands in" if settings.host_fallback else ""
            yield "channel", "warning", f"{state.name} at {state.url}: {state.problem}{who} ({state.origin}){stand_in}"


def _indexes(settings: Settings) -> Iterator[Observation]:
    access = Access.of(condarc.applied(settings))
    learn_indexes(access)
    every_one_answers = not access.offline
    named = list(dict.fromkeys(named_indexes()))
    with ThreadPoolExecutor(max_workers=8) as pool:
        problems = list(pool.map(lambda item: _index_problem(item[0], access), named))
    for (address, origin), problem in zip(named, problems, strict=True):
        clean = without_credentials(address)
        text = f"{clean}: {problem} ({origin})" if problem else f"{clean} ({origin})"
        yield "package index", "warning" if problem else "ok", text
        every_one_answers = every_one_answers and not problem
    if every_one_answers:
        problem = _refused_to_uv(access)
        text = f"uv is not answered: {problem}" if problem else "uv is answered by all that it asks"
        yield "package index", "warning" if problem else "ok", text


def _index_problem(address: str, access: Access) -> str | None:
    if "://" not in address or address.startswith("file:"):
        place = Path(unquote(urlsplit(address).path) or address).expanduser()
        return None if place.exists() else "is not there"
    return None if access.offline else _status(f"{without_credentials(address).rstrip('/')}/", access)


_IMPATIENT = {"UV_HTTP_RETRIES": "0", "UV_HTTP_CONNECT_TIMEOUT": "4", "UV_HTTP_TIMEOUT": "10"}
"""uv's variables, in seconds, for a question whose answer may be that nobody answers."""


def _refused_to_uv(access: Access) -> str | None:
    """Why uv, with all settings in force, can't ask the indexes for a package; None where it can.

    It asks its own default as well, where nobody names one.
    """
    command = ["pip", "compile", "--no-deps", *uv_options(), "-"]
    with tempfile.TemporaryDirectory() as folder:
        code, output = run_uv(
            command, cache_dir=Path(folder), standard_input="pip\n", access=access, own_variables=_IMPATIENT
        )
    if code == 0 or "No solution found" in output:
        return None
    lines = [re.sub(r"^\W*(?:cause: |error: )?", "", line).strip() for line in output.splitlines() if line.strip()]
    place = [line for line in lines if line.startswith("Failed to fetch")]
    return "; ".join(dict.fromkeys([*place[:1], *lines[-1:]])) or "it gives no reason"

"""How one command gets at channels and indexes: credentials, proxy, certificates, offline or not.

py-rattler, uv and Python's own http client each have their own way to be told; here is what they
are told, so that all three reach, and refuse, the same hosts.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from trainenv.channels.credentials import Credentials
from trainenv.credentials import without_credentials
from trainenv.errors import UsageError
from trainenv.settings import Settings

if TYPE_CHECKING:
    import urllib.request

    from rattler import ChannelPriority
    from rattler.networking import Client
    from rattler.repo_data import SourceConfig

RETRIES = 3
"""How often a request that broke off is sent again."""

_SHORTEST_SECRET = 4
"""Shorter ones are not looked for in messages: they would black out ordinary words."""

_ENVIRONMENT = threading.Lock()


@dataclass(frozen=True)
class Access:
    """``proxies`` are URLs by scheme. ``ssl_cert_file`` holds the roots to trust; None means the usual ones.

    ``read_timeout`` is how many seconds a server may be silent.
    """

    credentials: Credentials = field(default_factory=Credentials)
    proxies: Mapping[str, str] = field(default_factory=dict)
    ssl_cert_file: Path | None = None
    offline: bool = False
    priority: str = "strict"
    channel_alias: str | None = None
    read_timeout: float = 60.0

    @classmethod
    def of(cls, settings: Settings, addresses: Iterable[str] = ()) -> Access:
        """What ``settings`` and this process' variables say; ``addresses`` are those of the request itself."""
        mirrors = (address for several in settings.mirrors.values() for address in several)
        return cls(
            credentials=Credentials(settings.credentials, [*settings.channels, *mirrors, *addresses]),
            proxies=settings.proxies,
            ssl_cert_file=trusted_roots(settings),
            offline=settings.offline,
            priority=settings.channel_priority,
            channel_alias=settings.channel_alias,
            read_timeout=settings.read_timeout,
        )

    def public(self, text: str) -> str:
        """``text`` without any secret that is known, wherever it stands."""
        text = without_credentials(text)
        for secret in sorted(self.credentials.secrets, key=len, reverse=True):
            for form in {secret, quote(secret, safe="")}:
                if len(form) >= _SHORTEST_SECRET:
                    text = text.replace(form, "***")
        return text

    def variables(self) -> dict[str, str]:
        """The variables that tell any program about proxy and certificates."""
        found: dict[str, str] = {}
        for scheme, proxy in self.proxies.items():
            found[f"{scheme}_proxy"] = found[f"{scheme.upper()}_PROXY"] = proxy
        if self.ssl_cert_file:
            found["SSL_CERT_FILE"] = str(self.ssl_cert_file)
        return found

    def client(self) -> Client:
        """py-rattler's http client; addresses stay public, what is secret is added to each request."""
        from rattler.exceptions import AuthenticationStorageError
        from rattler.networking import (
            AddHeadersMiddleware,
            AuthenticationMiddleware,
            Client,
            GCSMiddleware,
            MirrorMiddleware,
            OciMiddleware,
            RetryMiddleware,
            S3Middleware,
        )

        middlewares: list[Any] = [RetryMiddleware(RETRIES)]
        if self.credentials.tokens:
            middlewares.append(MirrorMiddleware({key: [value] for key, value in self.credentials.tokens.items()}))
        middlewares.append(AddHeadersMiddleware(self._headers))
        middlewares.append(GCSMiddleware())
        stored = (AuthenticationMiddleware, OciMiddleware, S3Middleware)
        with self._environment():
            try:
                return Client([*middlewares, *(middleware() for middleware in stored)], user_agent="trainenv")
            except AuthenticationStorageError:
                # These read py-rattler's own store of passwords in the home folder, and there may be none.
                return Client(middlewares, user_agent="trainenv")

    def source_config(self, *, sharded: bool) -> SourceConfig:
        """How py-rattler gets repodata; offline only from its cache."""
        from rattler.repo_data import SourceConfig

        if self.offline:
            return SourceConfig(sharded_enabled=sharded, cache_action="force-cache-only")
        return SourceConfig(sharded_enabled=sharded)

    @property
    def channel_priority(self) -> ChannelPriority:
        from rattler import ChannelPriority

        return ChannelPriority[self.priority.capitalize()]

    def request(self, url: str, *, method: str = "GET") -> urllib.request.Request:
        """A request to the public address ``url``, with what its host has to be told."""
        import urllib.request

        url = self.credentials.with_token(url)
        request = urllib.request.Request(url, method=method, headers={"User-Agent": "trainenv"})
        if request.host and (found := self.credentials.find(request.host)):
            # Not passed on to another host that this one sends us to.
            request.add_unredirected_header("Authorization", found.header)
        return request

    def opener(self) -> urllib.request.OpenerDirector:
        """Python's own http client under this access."""
        import ssl
        import urllib.request

        handlers: list[urllib.request.BaseHandler] = [
            urllib.request.ProxyHandler({**urllib.request.getproxies(), **self.proxies})
        ]
        if self.ssl_cert_file:
            context = ssl.create_default_context(cafile=str(self.ssl_cert_file))
            handlers.append(urllib.request.HTTPSHandler(context=context))
        return urllib.request.build_opener(*handlers)

    @contextmanager
    def uv_variables(self) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
        """The variables for uv, and file descriptors that it must inherit.

        Credentials go through a netrc that lies in memory only; git, which uv starts, gets them as
        headers. uv's cache keeps the address of each page, so it can't be used where that holds a token.
        """
        found = {**self.variables(), **self._git_variables()}
        if self.credentials.token_opens_index:
            found["UV_NO_CACHE"] = "1"
        if self.offline:
            found["UV_OFFLINE"] = "1"
        content = self.credentials.as_netrc()
        if not content:
            yield found, ()
            return
        with in_memory("netrc", content) as (path, descriptor):
            yield {**found, "NETRC": path}, (descriptor,)

    def _git_variables(self) -> dict[str, str]:
        """git's settings as variables, added to those that are there: what to tell each host, on the first request."""
        hosts = self.credentials.known_hosts()
        if not hosts:
            return {}
        given = os.environ.get("GIT_CONFIG_COUNT", "")
        count = int(given) if given.isdecimal() else 0
        found: dict[str, str] = {}
        for host, known in hosts.items():
            for scheme in ("https", "http"):
                found[f"GIT_CONFIG_KEY_{count}"] = f"http.{scheme}://{host}/.extraHeader"
                found[f"GIT_CONFIG_VALUE_{count}"] = f"Authorization: {known.basic_header}"
                count += 1
        return {**found, "GIT_CONFIG_COUNT": str(count)}

    def _headers(self, host: str, path: str) -> dict[str, str] | None:
        found = self.credentials.find(host)
        return {"Authorization": found.header} if found else None

    @contextmanager
    def _environment(self) -> Iterator[None]:
        """Rust's http client reads proxy and certificates from the process' variables while it is made."""
        with _ENVIRONMENT:
            before = dict(os.environ)
            os.environ.update(self.variables())
            try:
                yield
            finally:
                for name in self.variables():
                    os.environ.pop(name, None)
                    if name in before:
                        os.environ[name] = before[name]


@contextmanager
def in_memory(name: str, content: str) -> Iterator[tuple[str, int]]:
    """A file that lies in no folder: a path to it for a program that inherits the file descriptor."""
    descriptor = os.memfd_create(name)
    try:
        with open(descriptor, "w", closefd=False) as stream:
            stream.write(content)
        yield f"/proc/self/fd/{descriptor}", descriptor
    finally:
        os.close(descriptor)


def trusted_roots(settings: Settings) -> Path | None:
    """The file of the root certificates to trust, None for the usual ones.

    ``ssl_cert_file`` of ``trainenv.toml`` comes first, then the variable ``SSL_CERT_FILE``, which
    every part reads by itself, then ``REQUESTS_CA_BUNDLE``, as conda and pip know it.
    """
    named = settings.ssl_cert_file
    if named is None and not os.environ.get("SSL_CERT_FILE") and (bundle := os.environ.get("REQUESTS_CA_BUNDLE")):
        named = Path(bundle)
    if named is None or named.is_dir():
        return None
    if not named.is_file():
        raise UsageError(
            f"there are no root certificates in {named}",
            cause="there is no such file",
            hint="ssl_cert_file in trainenv.toml, or the variable REQUESTS_CA_BUNDLE, names it",
        )
    return named

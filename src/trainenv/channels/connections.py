"""Requests over connections that stay open, for who asks the same host many times.

What to tell a host, its proxy and the certificates come from ``Access``, so that the same hosts are
reached, and refused, as by everything else.
"""

from __future__ import annotations

import http
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

from trainenv.channels.access import Access
from trainenv.errors import ChannelError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

_MOST_REDIRECTS = 10
_CONNECT_SECONDS = 20.0
_BLOCK = 1 << 18
"""Bytes of a body that are sent at once."""

_REDIRECTS = frozenset((301, 302, 303, 307, 308))


class Connections:
    """Connections under ``access``, at most ``lanes`` to a host at a time. Safe to use from several threads."""

    def __init__(self, access: Access, lanes: int) -> None:
        self._access = access
        self._lanes = lanes
        self._pools: dict[str | None, PoolManager] = {}

    def get(self, url: str, headers: Mapping[str, str]) -> BaseHTTPResponse:
        """The answer to a GET of the public address ``url``, whatever its status, with its body still to be read.

        Redirects are followed, and who asks that we say who we are is told by the user's keyring. Raises
        what urllib3 raises, and ``ChannelError`` for what no second try would mend.
        """
        secure = False
        asked = False
        for _ in range(_MOST_REDIRECTS):
            secure = secure or url.startswith("https:")
            answer = self._once(url, headers, tell=not secure or url.startswith("https:"))
            target = answer.headers.get("Location")
            if answer.status in _REDIRECTS and target:
                answer.close()
                url = urljoin(url, target)
                if urlsplit(url).scheme not in ("http", "https"):
                    raise ChannelError(f"{self._access.public(url)} can't be fetched", cause="a redirect leads there")
                continue
            if answer.status == http.HTTPStatus.UNAUTHORIZED and not asked:
                asked = True
                if self._access.credentials.find(urlsplit(url).netloc) is None and (
                    self._access.credentials.ask_keyring(urlsplit(url).netloc)
                ):
                    answer.close()
                    continue
            return answer
        raise ChannelError(f"{self._access.public(url)} can't be fetched", cause="it redirects without end")

    def put(self, url: str, size: int, body: Callable[[], Any]) -> BaseHTTPResponse:
        """The answer to a PUT of the ``size`` bytes of the file that ``body`` opens to the public address ``url``.

        It is opened anew where a redirect leads elsewhere. Raises as ``get`` does.
        """
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        for _ in range(_MOST_REDIRECTS):
            with closing(body()) as file:
                answer = self._once(url, headers, tell=True, method="PUT", body=file)
            target = answer.headers.get("Location")
            if answer.status not in (307, 308) or not target or url.startswith("https:") > target.startswith("https:"):
                return answer
            answer.close()
            url = urljoin(url, target)
        raise ChannelError(f"{self._access.public(url)} can't be written", cause="it redirects without end")

    def close(self) -> None:
        """Close what is open and idle."""
        for pool in self._pools.values():
            pool.clear()

    def _once(
        self, url: str, headers: Mapping[str, str], *, tell: bool, method: str = "GET", body: Any = None
    ) -> BaseHTTPResponse:
        from urllib3.exceptions import LocationParseError, LocationValueError

        request = self._access.request(url)
        told = {"User-Agent": "trainenv", "Accept-Encoding": "identity", **headers}
        if tell and (authorization := request.get_header("Authorization")):
            told["Authorization"] = authorization
        try:
            return self._pool(request).request(
                method,
                request.full_url,
                body=body,
                headers=told,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except (LocationParseError, LocationValueError):
            raise ChannelError(f"{self._access.public(url)} is no address") from None

    def _pool(self, request: urllib.request.Request) -> PoolManager:
        proxy = self._proxy(request)
        if proxy not in self._pools:
            self._pools[proxy] = self._made(proxy)
        return self._pools[proxy]

    def _proxy(self, request: urllib.request.Request) -> str | None:
        """As ``Access.opener`` finds it: the settings', else the variables'."""
        proxies = {**urllib.request.getproxies(), **self._access.proxies}
        if not request.host or urllib.request.proxy_bypass(request.host):
            return None
        return proxies.get(request.type) or proxies.get("all")

    def _made(self, proxy: str | None) -> PoolManager:
        import urllib3

        roots = self._access.ssl_cert_file
        options = {
            "maxsize": self._lanes,
            "blocksize": _BLOCK,
            "retries": False,
            "timeout": urllib3.Timeout(min(_CONNECT_SECONDS, self._access.read_timeout), self._access.read_timeout),
            "ssl_context": ssl.create_default_context(cafile=None if roots is None else str(roots)),
        }
        if proxy is None:
            return urllib3.PoolManager(**options)  # type: ignore[arg-type]
        if proxy.startswith("socks"):
            return self._made_for_socks(proxy, options)
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        told = urllib3.make_headers(proxy_basic_auth=login) if login else None
        place = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        return urllib3.ProxyManager(place, proxy_headers=told, **options)  # type: ignore[arg-type]

    def _made_for_socks(self, proxy: str, options: Mapping[str, object]) -> PoolManager:
        try:
            from urllib3.contrib.socks import SOCKSProxyManager
        except ImportError:
            raise ChannelError(
                f"the proxy {self._access.public(proxy)} can't be used",
                cause="Python needs the package PySocks for it",
                hint="Install PySocks beside trainenv",
            ) from None
        return SOCKSProxyManager(proxy, **options)  # type: ignore[arg-type]

"""Which package indexes and repositories refuse us. uv takes a page that it may not see for one that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from trainenv.channels.access import Access
from trainenv.credentials import without_credentials
from trainenv.errors import InstallError

_SECONDS = 10.0
_MOST_NAMES = 3
_STATUS = {401: "401 Unauthorized", 403: "403 Forbidden"}


@dataclass(frozen=True)
class Refusal:
    """``url``, which holds no secret, answered with HTTP ``status``. ``sent`` says where our credentials came from."""

    url: str
    status: int
    sent: str | None

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def line(self) -> str:
        return f"{self.url} answers {_STATUS[self.status]}, {self.tried}"

    @property
    def tried(self) -> str:
        if self.sent is None:
            return "and no user and password is known for it"
        return f"though it was told the user and password of {self.sent}"

    def error(self) -> InstallError:
        return InstallError(
            f"{self.host} refuses us",
            cause=self.line,
            hint=f'Name its user and password in [credentials."{self.host}"] of trainenv.toml, in ~/.netrc, '
            "or in index-url of pip's settings"
            if self.sent is None
            else "Correct them there, or ask who runs it for access",
        )


def in_message(output: str, access: Access) -> Refusal | None:
    """The refusal of a file or repository that uv, or the git it has started, tells of in ``output``."""
    if found := re.search(r"\((401|403) [A-Z][a-z]+\) for url \(([^\s)]+)\)", output):
        return _refusal(found[2], int(found[1]), access)
    if found := re.search(
        r"(?:could not read (?:Username|Password)|Authentication failed) for '(https?://[^']+)'", output
    ):
        return _refusal(found[1], 401, access)
    if found := re.search(r"unable to access '(https?://[^']+)': The requested URL returned error: (401|403)", output):
        return _refusal(found[1], int(found[2]), access)
    return None


def of_missing(output: str, indexes: Sequence[str], access: Access) -> list[Refusal]:
    """Those of ``indexes`` that refuse the pages of packages which uv, in ``output``, has not found.

    One that answers 403 may mean "there is no such package", as some stores of files do. It counts
    only where no other index could be asked.
    """
    names = re.findall(r"(\S+) was not found in the (?:package registry|provided)", output)[:_MOST_NAMES]
    web = list(dict.fromkeys(_shown(index) for index in indexes if index.startswith(("http://", "https://"))))
    if access.offline or not names or not web:
        return []
    found = list(_asked(web, names, access))
    return [item for item in found if item.status == 401 or len({each.url for each in found}) == len(web)]


def _shown(index: str) -> str:
    return without_credentials(index).rstrip("/")


def _asked(indexes: Sequence[str], names: Iterable[str], access: Access) -> Iterator[Refusal]:
    import urllib.error
    from http.client import HTTPException

    for index in indexes:
        for name in names:
            try:
                with access.opener().open(access.request(f"{index}/{name}/"), timeout=_SECONDS):
                    pass
            except urllib.error.HTTPError as error:
                error.close()
                if error.code in _STATUS:
                    yield _refusal(index, error.code, access)
                    break
            except (OSError, HTTPException, ValueError):
                break


def _refusal(url: str, status: int, access: Access) -> Refusal:
    url = without_credentials(url)
    known = access.credentials.find(urlsplit(url).netloc)
    return Refusal(url, status, known.source if known and known.secret else None)

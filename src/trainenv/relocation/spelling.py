"""How a prefix is spelled in a file: as it is, or as JSON, URLs, Python, shells and XML write such characters.

Standard library only, Python 3.8 or newer, as ``rewrite.py``, beside which it travels in archives. Of a plain
prefix (letters, digits, ``/ . _ -``) all spellings but that of escaped slashes are the same.
"""

from __future__ import annotations

import html
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable

PLAIN = "plain"


def _json(prefix: str) -> str:
    return json.dumps(prefix)[1:-1]


def _json_capitals(prefix: str) -> str:
    return re.sub(r"\\(u[0-9a-f]{4}|.)", lambda match: "\\" + match[1][0] + match[1][1:].upper(), _json(prefix))


def _json_slashes(prefix: str) -> str:
    return _json(prefix).replace("/", "\\/")


def _json_utf8(prefix: str) -> str:
    return json.dumps(prefix, ensure_ascii=False)[1:-1]


def _single_quoted(prefix: str) -> str:
    return prefix.replace("\\", "\\\\").replace("'", "\\'")


def _url(prefix: str) -> str:
    return quote(prefix, safe="/@")


def _url_of_python(prefix: str) -> str:
    return quote(prefix, safe="/")


def _url_of_browsers(prefix: str) -> str:
    return quote(prefix, safe="/!$&'()*+,;=:@~^|[]")


def _shell(prefix: str) -> str:
    return re.sub(r"[^\w/.@%+=:,~\x80-\U0010ffff-]", r"\\\g<0>", prefix, flags=re.ASCII)


def _shell_single_quoted(prefix: str) -> str:
    return prefix.replace("'", "'\\''")


def _shell_single_quoted_by_python(prefix: str) -> str:
    return prefix.replace("'", "'\"'\"'")


def _shell_double_quoted(prefix: str) -> str:
    return re.sub(r'["\\$`]', r"\\\g<0>", prefix)


def _shell_document(prefix: str) -> str:
    return re.sub(r"[\\$`]", r"\\\g<0>", prefix)


def _cmake(prefix: str) -> str:
    return re.sub(r'[ \t"\\$;()#]', r"\\\g<0>", prefix)


_SPELLED: dict[str, Callable[[str], str]] = {
    PLAIN: str,
    "json": _json,
    "json-utf8": _json_utf8,
    "json-capitals": _json_capitals,
    "json-slashes": _json_slashes,
    "url": _url,
    "url-python": _url_of_python,
    "url-browser": _url_of_browsers,
    "single-quoted": _single_quoted,
    "shell": _shell,
    "shell-single-quoted": _shell_single_quoted,
    "shell-single-quoted-python": _shell_single_quoted_by_python,
    "shell-double-quoted": _shell_double_quoted,
    "shell-document": _shell_document,
    "cmake": _cmake,
    "xml": html.escape,
}

SPELLINGS = tuple(_SPELLED)
"""``json`` has ASCII only, as Python writes it, others in capitals; ``json-utf8`` escapes quotes and backslashes alone,
as does what stands between ``"`` in Python. ``url`` is what every reader of a ``file://`` URL takes; Python's
``pathname2url`` escapes an ``@`` as well, and browsers (and uv) leave alone what need not be escaped. ``shell`` and
``cmake`` are for text outside of quotes; ``…-python`` is what ``shlex.quote`` makes of a quote."""


@lru_cache(maxsize=1024)
def spelled(prefix: str, spelling: str = PLAIN) -> bytes:
    """``prefix`` in one of ``SPELLINGS``. Raises ``ValueError`` for another."""
    if spelling not in _SPELLED:
        raise ValueError(f"{spelling!r} is no spelling of a prefix")
    return _SPELLED[spelling](prefix).encode()


def is_plain(prefix: str) -> bool:
    """Whether ``prefix`` is the same in every spelling that does not escape slashes."""
    return len({spelled(prefix, spelling) for spelling in SPELLINGS if spelling != "json-slashes"}) == 1

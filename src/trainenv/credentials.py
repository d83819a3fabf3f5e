"""Passwords and tokens in URLs: channels and indexes carry them, what trainenv writes or says must not."""

from __future__ import annotations

import re

_USER = re.compile(r"(?<=http://)[^\s/]+@|(?<=https://)[^\s/]+@")
_PASSWORD = re.compile(r"(\w://[^\s/:@]*):[^\s/]+@")
_CONDA_TOKEN = re.compile(r"(https?://[^\s\"'<>]+?)/t/[^\s/\"'<>]+")


def without_credentials(text: str) -> str:
    """``text`` with every ``user:password@`` and conda ``/t/TOKEN`` taken out of its web addresses.

    Of ``ssh://git@host`` and the like the user stays: it belongs to the address.

    >>> without_credentials("https://me:secret@example.org/t/token/channel")
    'https://example.org/channel'
    """
    if "@" not in text and "/t/" not in text:
        return text
    return _CONDA_TOKEN.sub(r"\1", _PASSWORD.sub(r"\1@", _USER.sub("", text)))

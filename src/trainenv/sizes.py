"""Sizes in bytes, as people write and read them. Standard library only and light."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kMGT]?)(i?)B)?", re.IGNORECASE)


def parse_size(value: object) -> int:
    """Bytes, written as a whole number or as ``"20 GB"`` (powers of 1000; ``GiB`` are powers of 1024).

    Raises ``ValueError`` where it is neither.
    """
    match = _SIZE.fullmatch(str(value).strip())
    if match is None or isinstance(value, bool):
        raise ValueError(f"{value!r} is no size")
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** " KMGT".index((unit or " ").upper()))


def human_size(count: int) -> str:
    """Bytes as ``12.3 MB`` (powers of 1000)."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"

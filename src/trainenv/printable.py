"""Text of unknown origin, such as the names in an archive, made fit for a terminal."""

from __future__ import annotations

_COMMANDS = {
    **{code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) != "\n"},
    **{code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}
"""What moves the cursor, colours, or turns the direction of writing."""


def printable(text: str) -> str:
    r"""``text``, in which whatever would command the terminal is an escape; lines stay lines.

    >>> printable("\x1b[2Jtool")
    '\\x1b[2Jtool'
    """
    return text if text.isprintable() else text.translate(_COMMANDS)

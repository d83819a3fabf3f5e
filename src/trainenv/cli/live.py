"""A table that stays on the terminal and shows what changes."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence

from trainenv.cli import table

_SECONDS = 1.0
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""To the terminal's other screen, without a cursor, and back to what was there."""


def show(look: Callable[[], tuple[Sequence[str], Sequence[Sequence[object]]]]) -> None:
    """Draw the header and rows that ``look`` gives, every second, until Ctrl-C; what does not fit is left out."""
    sys.stdout.write(_ENTER)
    try:
        while True:
            columns, rows = look()
            size = shutil.get_terminal_size()
            found = table.lines(columns, rows[: size.lines], width=size.columns)[: size.lines - 1]
            found[0] = f"\x1b[1m{found[0]}\x1b[0m"
            sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in found) + "\x1b[J")
            sys.stdout.flush()
            time.sleep(_SECONDS)
    except KeyboardInterrupt:
        pass
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()

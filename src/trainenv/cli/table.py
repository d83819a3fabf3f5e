"""Tables as lines of text, ten thousand rows in some hundredths of a second.

Standard library only, but for the width of what is not ASCII.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from trainenv.printable import printable

_GAP = "  "
_NARROWEST = 8


def lines(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = (), width: int | None = None
) -> list[str]:
    """The header and the rows; columns named in ``right`` are aligned to the right.

    Cells are folded where the table would be wider than ``width`` characters. None as a cell is empty; what would
    command the terminal is shown as an escape.
    """
    cells = [list(columns), *(["" if cell is None else str(cell) for cell in row] for row in rows)]
    if not all(map(str.isprintable, map("".join, cells))):
        cells = [list(map(printable, row)) for row in cells]
    folded = "\n" in "".join(map("".join, cells))
    inner = [[max(cell.split("\n"), key=_width) for cell in row] for row in cells] if folded else cells
    widths = [max(map(_width, column)) for column in zip(*inner, strict=True)]
    if width is not None and sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        widths = _narrowed(widths, width - len(_GAP) * (len(widths) - 1))
        folded = True
    alignments = [str.rjust if column in right else str.ljust for column in columns]
    found = (line for row in cells for line in _folded(row, widths)) if folded else iter(cells)
    if all(map(str.isascii, map("".join, cells))):
        return [
            _GAP.join([align(cell, size) for align, cell, size in zip(alignments, line, widths, strict=True)]).rstrip()
            for line in found
        ]
    return [
        _GAP.join(
            [
                align(cell, size - _width(cell) + len(cell))
                for align, cell, size in zip(alignments, line, widths, strict=True)
            ]
        ).rstrip()
        for line in found
    ]


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _narrowed(widths: list[int], room: int) -> list[int]:
    """The widest columns made as narrow as they have to be for all to fit into ``room``.

    The first, what a row is called, stays whole while the others can make room, so that it can be copied.
    """
    first, others = widths[0], widths[1:]
    if others and first + sum(min(size, _NARROWEST) for size in others) <= room:
        return [first, *_capped(others, room - first)]
    return _capped(widths, room)


def _capped(widths: list[int], room: int) -> list[int]:
    cap = max(widths)
    while cap > _NARROWEST and sum(min(size, cap) for size in widths) > room:
        cap -= 1
    return [min(size, cap) for size in widths]


def _folded(row: Sequence[str], widths: Sequence[int]) -> Iterator[list[str]]:
    """The lines that ``row`` takes."""
    if not any("\n" in cell or _width(cell) > size for cell, size in zip(row, widths, strict=True)):
        yield list(row)
        return
    pieces = [list(_pieces(cell, size)) for cell, size in zip(row, widths, strict=True)]
    for number in range(max(map(len, pieces))):
        yield [piece[number] if number < len(piece) else "" for piece in pieces]


def _pieces(cell: str, size: int) -> Iterator[str]:
    """``cell`` in lines of at most ``size``, broken at blanks where there are some."""
    for paragraph in cell.split("\n"):
        rest = paragraph
        while _width(rest) > size:
            end = size if rest.isascii() else next(n for n in range(len(rest), 0, -1) if _width(rest[:n]) <= size)
            blank = rest.rfind(" ", 1, end + 1)
            yield rest[: blank if blank > 0 else end]
            rest = rest[blank + 1 if blank > 0 else end :]
        yield rest

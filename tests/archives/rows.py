"""The columns of a manifest as one object for each member, to be changed at will and put back as they are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

Row = dict[str, Any]


def of_columns(columns: dict[str, Any]) -> list[Row]:
    """One row for each member; ``sha256`` and the like only where it has them."""
    names = columns["names"].split("/")
    runs = {"folder": "folders", "mode": "modes", "mtime": "mtimes", "owned": "owned"}
    expanded = {field: list(_expanded(columns[column])) for field, column in runs.items()}
    occurrences = {each["member"]: each for each in columns["occurrences"]}
    sizes, targets = iter(columns["sizes"]), iter(columns["targets"])
    whole, short = _pieces(columns["sha256"], 64), _pieces(columns["absent_sha256"], 8)
    rows = []
    for number, (name, kind) in enumerate(zip(names, columns["kinds"], strict=True)):
        row: Row = {"name": name, "kind": kind, **{field: values[number] for field, values in expanded.items()}}
        if kind == "l":
            row["target"] = next(targets)
        if number in occurrences:
            row["occurrences"] = {key: value for key, value in occurrences[number].items() if key != "member"}
        if kind in "fam":
            row["size"] = next(sizes)
            row["sha256"] = next(short if kind == "a" else whole)
        rows.append(row)
    return rows


def to_columns(rows: list[Row], owners: list[str]) -> dict[str, Any]:
    """The columns of ``rows``, as they would stand in a manifest if the rows made sense."""
    digests = [(row["kind"] == "a", row["sha256"]) for row in rows if "sha256" in row]
    return {
        "names": "/".join(row["name"] for row in rows),
        "folders": _runs(row["folder"] for row in rows),
        "kinds": "".join(row["kind"] for row in rows),
        "modes": _runs(row["mode"] for row in rows),
        "mtimes": _runs(row["mtime"] for row in rows),
        "owners": owners,
        "owned": _runs(row["owned"] for row in rows),
        "sizes": [row["size"] for row in rows if "size" in row],
        "sha256": "".join(digest for short, digest in digests if not short),
        "absent_sha256": "".join(digest for short, digest in digests if short),
        "targets": [row["target"] for row in rows if "target" in row],
        "occurrences": [
            {"member": number, **row["occurrences"]} for number, row in enumerate(rows) if "occurrences" in row
        ],
    }


def paths(rows: list[Row]) -> list[str]:
    """The path of each row."""
    found: list[str] = []
    for row in rows:
        found.append(f"{found[row['folder'] - 1]}/{row['name']}" if row["folder"] else row["name"])
    return found


def _expanded(runs: list[int]) -> Iterator[int]:
    for value, times in zip(runs[::2], runs[1::2], strict=True):
        yield from [value] * times


def _runs(values: Iterator[Any]) -> list[Any]:
    return [each for _, same in groupby(values, repr) for group in [list(same)] for each in (group[0], len(group))]


def _pieces(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))

"""The list of members as it stands in a manifest: an object of columns, from which ``Files`` are made and checked.

What repeats is written as runs: ``[value, times, value, times, ...]``.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, groupby
from typing import Any

from trainenv.archives.members import KINDS, Files

SHORTENED = 10
"""How many digits of the sha256 of an absent file stand in a delta; one sha256 of all of them proves the rest.

With its size they tell it from a million other files but for one time in a million.
"""

_WHOLE = 64
_COLUMNS = frozenset(
    [
        "names",
        "folders",
        "kinds",
        "modes",
        "mtimes",
        "owners",
        "owned",
        "sizes",
        "sha256",
        "absent_sha256",
        "targets",
        "occurrences",
    ]
)
_MOST_FILES = 1 << 21
_MOST_OF_PATHS = 1 << 28
"""Characters that the paths of all members have together."""

compact = json.JSONEncoder(separators=(",", ":")).encode
"""The shortest JSON of a value."""


class Held(str):
    """The JSON of the occurrences in a member, whose ``number`` stands before them."""

    number: int


def made_of(pairs: list[tuple[str, Any]]) -> Any:
    """For the ``object_pairs_hook`` of ``json``: a dictionary, or ``Held``, which takes a fifth of the memory."""
    if pairs and pairs[0][0] == "member" and type(pairs[0][1]) is int:
        held = Held(compact(dict(pairs[1:])))
        held.number = pairs[0][1]
        return held
    return dict(pairs)


def encoded(files: Files) -> str:
    """The JSON of ``files``. ``ValueError`` if one lies in no folder among them."""
    numbers = {"": 0}
    numbers |= {f"{files.path(number)}/": number + 1 for number, letter in enumerate(files.kinds) if letter == ord("d")}
    if stray := files_outside(files, numbers.keys()):
        raise ValueError(f"{stray[0]!r} lies in no folder")
    with_content = [number for number, letter in enumerate(files.kinds) if chr(letter) in "fa"]
    short = [number for number in with_content if files.digits[number] != _WHOLE]
    columns: dict[str, Any] = {
        "names": "/".join(files.names),
        "folders": _runs(numbers[files.places[index]] for index in files.folders),
        "kinds": files.kinds.decode(),
        "modes": _runs(files.modes),
        "mtimes": _runs(files.mtimes),
        "owners": files.owner_names,
        "owned": _runs(files.owners),
        "sizes": [files.sizes[number] for number in with_content],
        "sha256": "".join(files.sha256(number) for number in with_content if files.digits[number] == _WHOLE),
        "absent_sha256": "".join(map(files.sha256, short)),
        "targets": [files.targets[number] for number in sorted(files.targets)],
    }
    held = ",".join(f'{{"member":{number},{text[1:]}' for number, text in sorted(files.occurrences.items()))
    return f'{compact(columns)[:-1]},"occurrences":[{held}]}}'


def files_outside(files: Files, places: Iterable[str]) -> list[str]:
    """The paths of members that lie in none of ``places``."""
    known = set(places)
    strange = {index for index, place in enumerate(files.places) if place not in known}
    if not strange:
        return []
    return [files.path(number) for number, index in enumerate(files.folders) if index in strange]


def decoded(values: Any) -> Files:
    """The members that the columns ``values`` list. ``ValueError`` says what is wrong with them.

    What is right of a single column, and one beside the other, is checked here; the rest is for ``checks``.
    """
    if not isinstance(values, dict) or values.keys() != _COLUMNS:
        raise ValueError("its files are no columns, or not those that there must be")
    files = Files()
    kinds = _text(values, "kinds")
    count = len(kinds)
    if count > _MOST_FILES or not KINDS.keys() >= set(kinds):
        raise ValueError("its column of kinds is wrong")
    if _text(values, "names").count("/") + 1 != count:
        raise ValueError("its column of names is longer or shorter than that of kinds")
    files.names = values["names"].split("/")
    files.kinds = bytearray(kinds, "ascii")
    files.modes = array("H", _expanded(values, "modes", count, 0o777))
    files.mtimes = array("q", _expanded(values, "mtimes", count, 8**11 - 1))
    files.owner_names = _texts(values, "owners")
    files.owners = array("I", _expanded(values, "owned", count, len(files.owner_names) - 1))
    _put_into_folders(files, array("I", _expanded(values, "folders", count, count)))
    links = [number for number, kind in enumerate(kinds) if kind == "l"]
    targets = _texts(values, "targets")
    if len(targets) != len(links) or not all(targets):
        raise ValueError("its column of targets is wrong")
    files.targets = dict(zip(links, targets, strict=True))
    _put_occurrences(files, values["occurrences"])
    with_content = [number for number, kind in enumerate(kinds) if kind in "fa"]
    _put_sizes(files, values["sizes"], with_content)
    _put_digests(files, values, with_content)
    return files


def _runs(values: Iterable[int]) -> list[int]:
    return list(chain.from_iterable((value, sum(1 for _ in same)) for value, same in groupby(values)))


def _expanded(values: dict[str, Any], name: str, count: int, highest: int) -> Iterable[int]:
    """What the runs of a column stand for: ``count`` numbers from 0 to ``highest``."""
    runs = values[name]
    if not _are_numbers(runs) or len(runs) % 2:
        raise ValueError(f"its column of {name} is wrong")
    numbers, times = runs[::2], runs[1::2]
    if not 0 <= min(numbers, default=0) <= max(numbers, default=0) <= highest:
        raise ValueError(f"its column of {name} has an impossible number")
    if min(times, default=1) < 1 or sum(times) != count:
        raise ValueError(f"its column of {name} is longer or shorter than that of kinds")
    return chain.from_iterable(map(_repeated, numbers, times))


def _repeated(value: int, times: int) -> Sequence[int]:
    return (value,) * times


def _put_into_folders(files: Files, numbers: Sequence[int]) -> None:
    """Say in which folder, an earlier member, each member lies: by its number from 1 on, 0 for the prefix."""
    places = {0: 0}
    files.places = [""]
    length = 0
    for number, letter in enumerate(files.kinds):
        folder = places.get(numbers[number])
        if folder is None:
            raise ValueError(f"{files.names[number]!r} does not lie in a folder of the archive")
        files.folders.append(folder)
        length += len(files.places[folder]) + len(files.names[number])
        if length > _MOST_OF_PATHS:
            raise ValueError("its paths are impossibly long")
        if letter == ord("d"):
            places[number + 1] = len(files.places)
            files.places.append(f"{files.path(number)}/")


def _put_occurrences(files: Files, held: Any) -> None:
    if type(held) is not list or not all(type(each) is Held for each in held):
        raise ValueError("its column of occurrences is wrong")
    last = -1
    for each in held:
        if not last < each.number < len(files) or files.kinds[each.number] not in b"fa":
            raise ValueError("its column of occurrences is about no files, or not in their order")
        last = each.number
    files.occurrences = {each.number: str(each) for each in held}


def _put_sizes(files: Files, sizes: Any, with_content: Sequence[int]) -> None:
    if not _are_numbers(sizes) or len(sizes) != len(with_content):
        raise ValueError("its column of sizes is wrong")
    if not 0 <= min(sizes, default=0) <= max(sizes, default=0) < 1 << 62:
        raise ValueError("its column of sizes has an impossible number")
    files.sizes = array("q", bytes(8 * len(files)))
    for number, size in zip(with_content, sizes, strict=True):
        files.sizes[number] = size


def _put_digests(files: Files, values: dict[str, Any], with_content: Sequence[int]) -> None:
    """Files that are there, or hold the prefix, have their sha256 in full."""
    short = [n for n in with_content if files.kinds[n] == ord("a") and n not in files.occurrences]
    lacking = set(short)
    files.digests, files.digits = bytearray(32 * len(files)), bytearray(len(files))
    whole = [number for number in with_content if number not in lacking]
    for name, digits, numbers in (("sha256", _WHOLE, whole), ("absent_sha256", SHORTENED, short)):
        text = _text(values, name)
        known = _bytes(text)
        size = digits // 2
        if known is None or len(known) != size * len(numbers):
            raise ValueError(f"its column of {name} is wrong")
        for index, number in enumerate(numbers):
            files.digests[32 * number : 32 * number + size] = known[size * index : size * (index + 1)]
            files.digits[number] = digits


def _bytes(text: str) -> bytes | None:
    """What ``text`` is the hexadecimal form of; None if it is none, or not in small letters alone."""
    try:
        known = bytes.fromhex(text)
    except ValueError:
        return None
    return known if known.hex() == text else None


def _are_numbers(values: Any) -> bool:
    return type(values) is list and set(map(type, values)) <= {int}


def _text(values: dict[str, Any], name: str) -> str:
    return str(_checked(values, name, lambda value: type(value) is str))


def _texts(values: dict[str, Any], name: str) -> list[str]:
    found = _checked(values, name, lambda value: type(value) is list and set(map(type, value)) <= {str})
    return list(found)


def _checked(values: dict[str, Any], name: str, is_right: Callable[[Any], bool]) -> Any:
    if not is_right(values[name]):
        raise ValueError(f"its column of {name} is wrong")
    return values[name]

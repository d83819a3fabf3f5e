"""The list of members as it stands in a manifest: an object of columns, from which ``Files`` are made and checked.

What repeats is written as runs: ``[value, times, value, times, ...]``.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Any, NamedTuple

from trainenv.archives import tarformat
from trainenv.archives.members import KINDS, Files

SHORTENED = 8
"""How many digits of the sha256 of an absent file stand in a delta; one sha256 of all of them proves the rest.

With its size they tell it from all others that are there but for one time in some ten thousand, at worst.
"""

_WHOLE = 64
_WITH_CONTENT = "fam"
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
_HEXADECIMAL = re.compile("[0-9a-f]*")
_MOST_FILES = 1 << 21
_MOST_OF_PATHS = 1 << 28
"""Characters that the paths of all members have together."""

compact = json.JSONEncoder(separators=(",", ":")).encode
"""The shortest JSON of a value."""


class Held(NamedTuple):
    """The ``text`` of the JSON of the occurrences in a member, whose ``number`` stands before them."""

    number: int
    text: str


def made_of(pairs: list[tuple[str, Any]]) -> Any:
    """For the ``object_pairs_hook`` of ``json``: a dictionary, or ``Held``, which takes a fifth of the memory."""
    if pairs and pairs[0][0] == "member" and type(pairs[0][1]) is int:
        return Held(pairs[0][1], compact(dict(pairs[1:])))
    return dict(pairs)


def encoded(files: Files) -> Iterator[str]:
    """The JSON of ``files``, in pieces. ``ValueError`` if one lies in no folder among them."""
    numbers = {"": 0}
    numbers |= {f"{files.path(number)}/": number + 1 for number, letter in enumerate(files.kinds) if letter == ord("d")}
    if stray := [
        files.path(number) for number, index in enumerate(files.folders) if files.places[index] not in numbers
    ]:
        raise ValueError(f"{stray[0]!r} lies in no folder")
    with_content = [number for number, letter in enumerate(files.kinds) if chr(letter) in _WITH_CONTENT]
    short = [number for number in with_content if files.digits[number] != _WHOLE]
    whole = [number for number in with_content if files.digits[number] == _WHOLE]
    columns: dict[str, Callable[[], Any]] = {
        "names": lambda: "/".join(files.names),
        "folders": lambda: _runs(numbers[files.places[index]] for index in files.folders),
        "kinds": files.kinds.decode,
        "modes": lambda: _runs(files.modes),
        "mtimes": lambda: _runs(files.mtimes),
        "owners": lambda: files.owner_names,
        "owned": lambda: _runs(files.owners),
        "sizes": lambda: [files.sizes[number] for number in with_content],
        "sha256": lambda: _hexadecimal(files, whole),
        "absent_sha256": lambda: _hexadecimal(files, short),
        "targets": lambda: [files.targets[number] for number in sorted(files.targets)],
    }
    mark = "{"
    for name, column in columns.items():
        yield f'{mark}"{name}":'
        yield compact(column())
        mark = ","
    yield ',"occurrences":['
    mark = ""
    for number in sorted(files.occurrences):
        yield f'{mark}{{"member":{number},{files.occurrences[number][1:]}'
        mark = ","
    yield "]}"


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
    names = _text(values, "names")
    if names.count("/") + 1 != count:
        raise ValueError("its column of names is longer or shorter than that of kinds")
    files.names = names.split("/")
    files.kinds = bytearray(kinds, "ascii")
    files.modes = array("H", _expanded(values, "modes", count, 0o777))
    files.mtimes = array("q", _expanded(values, "mtimes", count, tarformat.LATEST_MTIME))
    files.owner_names = _texts(values, "owners")
    files.owners = array("I", _expanded(values, "owned", count, len(files.owner_names) - 1))
    _put_into_folders(files, array("I", _expanded(values, "folders", count, count)))
    links = [number for number, kind in enumerate(kinds) if kind == "l"]
    targets = _texts(values, "targets")
    if len(targets) != len(links) or not all(targets):
        raise ValueError("its column of targets is wrong")
    files.targets = dict(zip(links, targets, strict=True))
    _put_occurrences(files, values["occurrences"])
    with_content = [number for number, kind in enumerate(kinds) if kind in _WITH_CONTENT]
    _put_sizes(files, values["sizes"], with_content)
    _put_digests(files, values, with_content)
    return files


def _hexadecimal(files: Files, numbers: Iterable[int]) -> str:
    """The known digits of the sha256 of these members."""
    known = bytearray()
    for number in numbers:
        known += files.digests[32 * number : 32 * number + files.digits[number] // 2]
    return known.hex()


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
        if not last < each.number < len(files) or files.kinds[each.number] not in _WITH_CONTENT.encode():
            raise ValueError("its column of occurrences is about no files, or not in their order")
        last = each.number
    files.occurrences = {each.number: each.text for each in held}


def _put_sizes(files: Files, sizes: Any, with_content: Sequence[int]) -> None:
    if not _are_numbers(sizes) or len(sizes) != len(with_content):
        raise ValueError("its column of sizes is wrong")
    if not 0 <= min(sizes, default=0) <= max(sizes, default=0) < 1 << 62:
        raise ValueError("its column of sizes has an impossible number")
    files.sizes = array("q", bytes(8 * len(files)))
    for number, size in zip(with_content, sizes, strict=True):
        files.sizes[number] = size


def _put_digests(files: Files, values: dict[str, Any], with_content: Sequence[int]) -> None:
    """All but what the other side has have their sha256 in full."""
    files.digests, files.digits = bytearray(32 * len(files)), bytearray(len(files))
    short = list(files.absent_numbers())
    whole = [number for number in with_content if files.kinds[number] != ord("a")]
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
    return bytes.fromhex(text) if _HEXADECIMAL.fullmatch(text) and len(text) % 2 == 0 else None


def _are_numbers(values: Any) -> bool:
    return type(values) is list and set(map(type, values)) <= {int}


def _text(values: dict[str, Any], name: str) -> str:
    text = _checked(values, name, lambda value: type(value) is str)
    assert isinstance(text, str)
    return text


def _texts(values: dict[str, Any], name: str) -> list[str]:
    found = _checked(values, name, lambda value: type(value) is list and set(map(type, value)) <= {str})
    return list(found)


def _checked(values: dict[str, Any], name: str, is_right: Callable[[Any], bool]) -> Any:
    if not is_right(values[name]):
        raise ValueError(f"its column of {name} is wrong")
    return values[name]

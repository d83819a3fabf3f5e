"""The members of an archive, kept by column: of a hundred thousand files the list takes some 15 MB."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from typing import NamedTuple, overload

from trainenv.archives import tarformat

KINDS = {"d": "folder", "f": "file", "l": "link", "a": "file", "m": "file"}
"""What the letters of the column of kinds mean.

Two are not in a delta itself: ``a`` is a file that the other side has, ``m`` one that is made of the manifest there.
"""

PACKER = "trainenv"
"""The owner of what an archive's packer makes."""

CONDA_UNPACK = "bin/conda-unpack"

DELTA_NOTE = "THIS-IS-A-DELTA.txt"
"""The first member of a delta, for who unpacks it with ``tar``."""

_KINDS = {ord(letter): kind for letter, kind in KINDS.items()}
_LETTERS = {"folder": ord("d"), "file": ord("f"), "link": ord("l")}
_ABSENT, _MADE = b"am"
_LINK = ord("l")
_DIGEST = 32


class File(NamedTuple):
    """One member: a ``"file"``, ``"link"`` or ``"folder"``, with a path relative to the prefix.

    ``size`` and ``sha256`` are those of the canonical content, ``mtime`` is in whole seconds,
    ``owner`` is ``"conda:NAME"``, ``"pypi:NAME"``, ``PACKER`` or empty. ``occurrences`` are the text of their JSON.
    Of a file that is ``absent`` from a delta ``sha256`` may have only its first digits. ``number`` is its place in the
    list.
    """

    path: str
    kind: str
    mode: int
    mtime: int
    size: int = 0
    sha256: str = ""
    owner: str = ""
    target: str = ""
    occurrences: str | None = None
    absent: bool = False
    number: int = 0

    @property
    def is_tool(self) -> bool:
        """Whether it is for machines without trainenv, and no part of the environment."""
        if self.path == CONDA_UNPACK:
            return True
        return self.owner == PACKER and (self.path.startswith("bin/") or self.path == DELTA_NOTE)


class Files(Sequence[File]):
    """Members in the order of their archive. A ``File`` is made of the columns when one asks for it.

    ``names`` are the last parts of the paths, ``folders`` what comes before, as indices into ``places`` (each empty or
    with a slash at its end). ``owners`` are indices into ``owner_names``. Of the sha256 each member has 32 bytes in
    ``digests``, of which the first ``digits`` hexadecimal digits are known. ``targets`` and ``occurrences`` are by
    number.
    """

    def __init__(self, files: Iterable[File] = ()) -> None:
        self.names: list[str] = []
        self.folders = array("I")
        self.places: list[str] = []
        self.kinds = bytearray()
        self.modes = array("H")
        self.mtimes = array("q")
        self.sizes = array("q")
        self.owners = array("I")
        self.owner_names: list[str] = []
        self.digests = bytearray()
        self.digits = bytearray()
        self.targets: dict[int, str] = {}
        self.occurrences: dict[int, str] = {}
        self._place_numbers: dict[str, int] = {}
        self._owner_numbers: dict[str, int] = {}
        self._begins = array("Q")
        for file in files:
            self.add(file)

    def add(self, file: File) -> None:
        """Append ``file``, whatever its ``number``."""
        number = len(self.names)
        folder, slash, name = file.path.rpartition("/")
        self.names.append(name)
        self.folders.append(_numbered(folder + slash, self.places, self._place_numbers))
        not_inside = _MADE if file.owner == PACKER else _ABSENT
        self.kinds.append(not_inside if file.absent else _LETTERS[file.kind])
        self.modes.append(file.mode)
        self.mtimes.append(file.mtime)
        self.sizes.append(file.size)
        self.owners.append(_numbered(file.owner, self.owner_names, self._owner_numbers))
        self.digests += bytes.fromhex(file.sha256).ljust(_DIGEST, b"\0")
        self.digits.append(len(file.sha256))
        if file.target:
            self.targets[number] = file.target
        if file.occurrences is not None:
            self.occurrences[number] = file.occurrences

    def set_sha256(self, number: int, sha256: str) -> None:
        """Say what the sha256 of a file is, which was added without."""
        self.digests[number * _DIGEST : (number + 1) * _DIGEST] = bytes.fromhex(sha256)
        self.digits[number] = len(sha256)

    def with_own_digests(self) -> Files:
        """The same members; what is said of their sha256 there is not said here."""
        other = copy(self)
        other.digests, other.digits = self.digests[:], self.digits[:]
        return other

    def with_digits(self, count: int) -> Files:
        """The same members, but of what the other side has only ``count`` digits of the sha256."""
        other = copy(self)
        other.digits = self.digits[:]
        for number in self.absent_numbers():
            other.digits[number] = count
        return other

    def path(self, number: int) -> str:
        return self.places[self.folders[number]] + self.names[number]

    def sha256(self, number: int) -> str:
        begin = number * _DIGEST
        return self.digests[begin : begin + _DIGEST].hex()[: self.digits[number]]

    def find(self, path: str) -> File | None:
        """The member at ``path``. Looks through all of them."""
        folder, slash, name = path.rpartition("/")
        place = folder + slash
        numbers = (number for number, other in enumerate(self.names) if other == name)
        found = next((number for number in numbers if self.places[self.folders[number]] == place), None)
        return None if found is None else self[found]

    @property
    def begins(self) -> Sequence[int]:
        """Where in the tar each member begins, and at last where its end is. ``ValueError`` for impossible sizes."""
        if len(self._begins) != len(self.names) + 1:
            try:
                self._begins = array("Q", self._positions())
            except OverflowError:
                raise ValueError("its files are larger than any disk") from None
        return self._begins

    def of_kind(self, kind: str) -> Iterator[File]:
        """All ``"file"``, ``"link"`` or ``"folder"`` members."""
        return (self[number] for number, letter in enumerate(self.kinds) if _KINDS[letter] == kind)

    def of_environment(self) -> Iterator[File]:
        """The files that are a part of the environment."""
        return map(self.__getitem__, self.environment_numbers())

    def environment_numbers(self) -> Iterator[int]:
        packers = {number for number, owner in enumerate(self.owner_names) if owner == PACKER}
        name = CONDA_UNPACK.rpartition("/")[2]
        for number, (letter, owner) in enumerate(zip(self.kinds, self.owners, strict=True)):
            if _KINDS[letter] == "file":
                may_be_tool = owner in packers or self.names[number] == name
                if not (may_be_tool and self[number].is_tool):
                    yield number

    def paths(self) -> Iterator[str]:
        return map(self.path, range(len(self.names)))

    def absent(self) -> Iterator[File]:
        """The files that the other side has."""
        return map(self.__getitem__, self.absent_numbers())

    def made(self) -> Iterator[File]:
        """The files that are made of the manifest."""
        return (self[number] for number, letter in enumerate(self.kinds) if letter == _MADE)

    def absent_numbers(self) -> Iterator[int]:
        return (number for number, letter in enumerate(self.kinds) if letter == _ABSENT)

    @property
    def absent_count(self) -> int:
        return self.kinds.count(_ABSENT)

    @property
    def bytes(self) -> int:
        """The sum of all sizes."""
        return sum(self.sizes)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> File: ...
    @overload
    def __getitem__(self, index: slice) -> list[File]: ...
    def __getitem__(self, index: int | slice) -> File | list[File]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self.names)))]
        number = range(len(self.names))[index]
        letter = self.kinds[number]
        return File(
            self.path(number),
            _KINDS[letter],
            self.modes[number],
            self.mtimes[number],
            self.sizes[number],
            self.sha256(number),
            self.owner_names[self.owners[number]],
            self.targets.get(number, ""),
            self.occurrences.get(number),
            letter in (_ABSENT, _MADE),
            number,
        )

    def __iter__(self) -> Iterator[File]:
        return map(self.__getitem__, range(len(self.names)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Files) and len(self) == len(other) and all(map(File.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]

    def _positions(self) -> Iterator[int]:
        plain = [len(place) if place.isascii() else tarformat.BLOCK for place in self.places]
        position = 0
        for number, (name, folder, letter, size) in enumerate(
            zip(self.names, self.folders, self.kinds, self.sizes, strict=True)
        ):
            yield position
            if letter in (_ABSENT, _MADE):
                continue
            is_plain = letter != _LINK and plain[folder] + len(name) < tarformat.LONGEST_NAME and name.isascii()
            if is_plain and size <= tarformat.LARGEST_SIZE:
                position += tarformat.BLOCK
            else:
                target = self.targets.get(number, "")
                position += tarformat.header_size(self.path(number), KINDS[chr(letter)], size, target)
            position += size + tarformat.padding(size)
        yield position


def _numbered(text: str, texts: list[str], numbers: dict[str, int]) -> int:
    """The index of ``text`` in ``texts``, where it is put if it is new."""
    number = numbers.get(text)
    if number is None:
        number = numbers[text] = len(texts)
        texts.append(text)
    return number

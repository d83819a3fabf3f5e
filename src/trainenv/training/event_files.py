"""Reads scalars from TensorBoard's event files, as they grow.

Standard library only. A file is a row of TFRecords: the length of the data (8 bytes, little-endian), a
checksum of these, the data, a checksum of the data. Both are CRC-32C, rotated and shifted
("masked"). The data is an ``Event`` in Protocol Buffers; of its fields count ``step`` (2) and, in ``summary``
(5), each ``value`` (1) with its ``tag`` (1) and a number: ``simple_value`` (2) or a ``tensor`` (8) with one element.
Images, histograms and texts are passed over.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from trainenv.training.metric_lines import POSITIONS, Metrics

_FILE = re.compile(r"events\.out\.tfevents\.(\d+)?")
_LARGEST_RECORD = 64 * 1024
"""Bytes: a scalar takes a hundred; what is larger holds images or the like and is not read."""
_MOST_FOLDERS = 10_000
_SCALAR_PLUGIN = b"scalars"
_FLOAT, _DOUBLE, _INT32, _INT64 = 1, 2, 3, 9
_TENSOR_CONTENT = 4
_TENSOR_FORMATS = {_FLOAT: "<f", _DOUBLE: "<d", _INT32: "<i", _INT64: "<q"}
_TENSOR_FIELDS = {_FLOAT: 5, _DOUBLE: 6, _INT32: 7, _INT64: 10}


class EventFiles:
    """All event files below a folder. One that is damaged is read up to that place."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._files: dict[str, _EventFile] = {}
        self._main: str | None = None

    def read(self) -> list[Metrics]:
        """The records that have come since the last time, those of one file and step as one.

        Names are the tags. Files in another folder than the first file's are other runs: their tags are
        named after it (``validation/epoch_loss``), as TensorBoard shows them apart.
        """
        for path in _found(self._folder):
            if path not in self._files:
                self._files[path] = _EventFile(path)
                self._main = self._main or os.path.dirname(path)
        return [record for path, file in self._files.items() for record in file.read(self._run_of(path))]

    def _run_of(self, path: str) -> str:
        run = os.path.relpath(os.path.dirname(path), self._main)
        while run.startswith("../"):
            run = run[3:]
        return "" if run in (".", "..") else f"{run}/"


class _EventFile:
    """One file, read up to ``_place``; ``_damaged`` where a checksum is wrong."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._place = 0
        self._damaged = False

    def read(self, run: str) -> list[Metrics]:
        """The records that have come; ``run`` goes before each name."""
        found: list[Metrics] = []
        try:
            if self._damaged or os.stat(self._path).st_size <= self._place:
                return []
            with open(self._path, "rb") as file:
                for content in self._contents(file):
                    for step, tag, value in _scalars(content):
                        name = f"{run}{tag}"
                        if not found or found[-1]["step"] != step or found[-1].get(name, value) != value:
                            found.append({"step": step})
                        found[-1][name] = value
        except OSError:
            pass  # It has been removed, or can't be read: what there was counts.
        return [record for record in found if any(name not in POSITIONS for name in record)]

    def _contents(self, file: BinaryIO) -> Iterator[bytes]:
        """The data of each record that is there whole, from ``_place`` on."""
        size = os.fstat(file.fileno()).st_size
        file.seek(self._place)
        while len(head := file.read(12)) == 12:
            length, checksum = struct.unpack("<QI", head)
            if _masked_crc(head[:8]) != checksum:
                self._damaged = True
                return
            end = self._place + len(head) + length + 4
            if end > size:
                return
            if length > _LARGEST_RECORD:
                file.seek(end)
            else:
                content = file.read(length)
                if _masked_crc(content) != struct.unpack("<I", file.read(4))[0]:
                    self._damaged = True
                    return
                yield content
            self._place = end


def _found(folder: str) -> list[str]:
    """The event files below ``folder``, the oldest first: their names hold the second of their making."""
    found: list[tuple[int, int, str]] = []
    waiting, seen = [folder], 0
    while waiting and seen < _MOST_FOLDERS:
        seen += 1
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif (match := _FILE.match(entry.name)) and entry.is_file():
                        found.append((int(match[1] or 0), entry.path.count("/"), entry.path))
        except OSError:
            continue
    return [path for _, _, path in sorted(found)]


def _scalars(event: bytes) -> Iterator[tuple[int, str, int | float | None]]:
    """Step, tag and value of each scalar in an ``Event``. What is not to be understood has none."""
    step, summaries = 0, []
    try:
        for number, value in _fields(event):
            if number == 2 and isinstance(value, int):
                step = value - (1 << 64) if value >> 63 else value
            elif number == 5 and isinstance(value, bytes):
                summaries.append(value)
        found = [
            scalar
            for summary in summaries
            for number, value in _fields(summary)
            if number == 1 and isinstance(value, bytes) and (scalar := _scalar(value))
        ]
    except (ValueError, struct.error):
        return
    for tag, measured in found:
        yield step, tag, measured if measured - measured == 0 else None


def _scalar(summary_value: bytes) -> tuple[str, int | float] | None:
    tag, plugin = "", b""
    found: int | float | None = None
    for number, value in _fields(summary_value):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            tag = value.decode(errors="replace")
        elif number == 2:
            found = _float(value)
        elif number == 8:
            found = _tensor(value)
        elif number == 9:
            plugin = _inside(_inside(value, 1), 1)
    return (tag, found) if tag and found is not None and plugin in (b"", _SCALAR_PLUGIN) else None


def _tensor(tensor: bytes) -> int | float | None:
    """The only number in a ``TensorProto``; None where there are more, or none."""
    kind, content = 0, b""
    listed: dict[int, int | bytes] = {}
    for number, value in _fields(tensor):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == _TENSOR_CONTENT and isinstance(value, bytes):
            content = value
        else:
            listed[number] = value
    if kind not in _TENSOR_FORMATS:
        return None
    packed = content or listed.get(_TENSOR_FIELDS[kind], b"")
    if isinstance(packed, int):
        return packed
    if kind in (_INT32, _INT64) and not content:
        return _varint(packed, 0)[0] if packed else None
    if len(packed) != struct.calcsize(_TENSOR_FORMATS[kind]):
        return None
    if kind == _FLOAT:
        return _float(packed)
    return next(iter(struct.unpack(_TENSOR_FORMATS[kind], packed)), None)


def _float(packed: bytes) -> float:
    """A number of 4 bytes, with no more digits than they hold: 0.1 rather than 0.10000000149011612."""
    found: float = struct.unpack("<f", packed)[0]
    shorter = (float(f"{found:.{digits}g}") for digits in range(6, 9))
    return next((each for each in shorter if struct.pack("<f", each) == packed), found)


def _inside(message: bytes, wanted: int) -> bytes:
    """The bytes in field ``wanted`` of a message."""
    return next((value for number, value in _fields(message) if number == wanted and isinstance(value, bytes)), b"")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and content of each field: integers, and bytes for all else. Raises ``ValueError``."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if kind == 2:
            length, place = _varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"no field is of kind {kind}")
        if place + length > len(message):
            raise ValueError("a field is cut short")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """The integer at ``place``, and the place behind it. Raises ``ValueError``."""
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place += 1
        shift += 7
        if byte < 0x80:
            return value, place
    raise ValueError("an integer does not end")


def _crc_table() -> list[int]:
    table = []
    for crc in range(256):
        rest = crc
        for _ in range(8):
            rest = rest >> 1 ^ (0x82F63B78 if rest & 1 else 0)
        table.append(rest)
    return table


_CRC_TABLE = _crc_table()


def _masked_crc(data: bytes) -> int:
    """The checksum that a TFRecord carries of ``data``: CRC-32C (Castagnoli), masked."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

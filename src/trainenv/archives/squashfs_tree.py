"""The inside of a squashfs image, read in Python from anything that gives its bytes: the tree, and the data of files.

Images are read that mksquashfs makes with zstd (squashfs 4.0). Nothing of an image is believed: what does not fit
raises ``ValueError``, and memory is bounded by what the caller allows. The format is written down in the kernel's
``Documentation/filesystems/squashfs.rst``; all numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from trainenv.archives.sources import ByteSource

MAGIC = b"hsqs"

_SUPERBLOCK = struct.Struct("<4sIIIIHHHHHHQQQQQQQQ")
_ZSTD = 6
_METADATA_SIZE = 8192
_LARGEST_BLOCK = 1 << 20
_NO_FRAGMENT = 0xFFFFFFFF
_STORED = 1 << 24
_FRAGMENTS_A_BLOCK = 512
_LONGEST_TARGET = 4095
_ZEROS = 1 << 20
"""So many bytes of block sizes may be in an image that is smaller: blocks of zeros take none (32 GB of them here)."""
_IS_FOLDER = 1

_INODE = struct.Struct("<HHHHII")
_FOLDER, _FILE, _LINK = struct.Struct("<IIHHI"), struct.Struct("<IIII"), struct.Struct("<II")
_BIG_FOLDER, _BIG_FILE = struct.Struct("<IIIIHHI"), struct.Struct("<QQQIIII")
_LISTING, _ENTRY = struct.Struct("<III"), struct.Struct("<HhHH")
_FRAGMENT = struct.Struct("<QII")


class Node(NamedTuple):
    """A member of an image: a ``"file"``, ``"folder"``, ``"link"`` or, for all else, ``"device"``.

    Of a file, ``start`` is where its blocks begin, ``blocks`` their sizes as the image has them, and ``fragment``
    and ``offset`` where its last bytes lie, which fill no block.
    """

    kind: str
    mode: int
    mtime: int
    size: int = 0
    target: str = ""
    start: int = 0
    blocks: tuple[int, ...] = ()
    fragment: int = _NO_FRAGMENT
    offset: int = 0


class Tree:
    """The tree of the image that ``source`` begins with; ``size`` is how many bytes belong to it.

    ``ValueError`` says why it is none.
    """

    def __init__(self, source: ByteSource, size: int) -> None:
        self._source = source
        if size < _SUPERBLOCK.size:
            raise ValueError("it is too short for an image")
        values = _SUPERBLOCK.unpack(source.read(0, _SUPERBLOCK.size))
        magic, _, _, self.block_size, self._fragments, compression, _, _, _, major, minor = values[:11]
        self._root, self._used, _, _, self._inode_table, self._folder_table, self._fragment_table, _ = values[11:]
        if magic != MAGIC or (major, minor) != (4, 0) or compression != _ZSTD:
            raise ValueError("it is no squashfs image in zstd")
        if not 4096 <= self.block_size <= _LARGEST_BLOCK or self._used > size:
            raise ValueError("its first block says what can't be")
        self._metadata = lru_cache(maxsize=1024)(self._read_metadata)
        self._fragment = lru_cache(maxsize=8)(self._read_fragment)

    def members(self) -> Iterator[tuple[str, int]]:
        """All members: path and where ``node`` finds it. A hostile image may have them without end."""
        waiting = [("", self._root)]
        while waiting:
            folder, reference = waiting.pop()
            node, place = self._node(reference)
            if node.kind != "folder":
                raise ValueError(f"{folder.rstrip('/')!r} is no folder")
            for name, kind, inside in self._listing(*place):
                path = f"{folder}{name}"
                if kind == _IS_FOLDER:
                    waiting.append((f"{path}/", inside))
                yield path, inside

    def node(self, reference: int) -> Node:
        """The member that ``members`` gave with ``reference``."""
        return self._node(reference)[0]

    def blocks(self, node: Node) -> Iterator[tuple[int, int, int]]:
        """The blocks of a file: where each lies, its size there as the image has it, its size unpacked."""
        position, left = node.start, node.size
        for packed in node.blocks:
            size = min(left, self.block_size)
            yield position, packed, size
            position += packed & ~_STORED
            left -= size

    def block(self, position: int, packed: int, size: int) -> bytes:
        """One block of ``blocks``. Several threads may read at once."""
        if packed == 0:
            return bytes(size)
        return self._unpacked(position, packed & ~_STORED, not packed & _STORED, size)

    def end(self, node: Node) -> bytes:
        """The last bytes of a file that fill no block; there may be none."""
        if node.fragment == _NO_FRAGMENT:
            return b""
        size = node.size % self.block_size
        content = self._fragment(node.fragment)[node.offset : node.offset + size]
        if len(content) != size:
            raise ValueError("a fragment is too short")
        return content

    def _node(self, reference: int) -> tuple[Node, tuple[int, int, int]]:
        """The member at ``reference``; for a folder also where its listing is (block, offset, size)."""
        data = _Run(self, self._inode_table, reference)
        kind, mode, _, _, mtime, _ = data.take(_INODE)
        if kind == 1:
            block, _, size, offset, _ = data.take(_FOLDER)
            return Node("folder", mode, mtime), (block, offset, size)
        if kind == 8:
            _, size, block, _, _, offset, _ = data.take(_BIG_FOLDER)
            return Node("folder", mode, mtime), (block, offset, size)
        if kind == 2:
            start, fragment, offset, size = data.take(_FILE)
        elif kind == 9:
            start, size, _, _, fragment, offset, _ = data.take(_BIG_FILE)
        elif kind in (3, 10):
            _, length = data.take(_LINK)
            if length > _LONGEST_TARGET:
                raise ValueError("a link in it is too long")
            return Node("link", mode, mtime, target=data.bytes(length).decode("utf-8", "surrogateescape")), (0, 0, 0)
        else:
            return Node("device", mode, mtime), (0, 0, 0)
        count = size // self.block_size if fragment != _NO_FRAGMENT else -(-size // self.block_size)
        if count * 4 > max(self._used, _ZEROS):
            raise ValueError("a file in it is larger than can be")
        blocks = struct.unpack(f"<{count}I", data.bytes(4 * count))
        return Node("file", mode, mtime, size, "", start, blocks, fragment, offset), (0, 0, 0)

    def _listing(self, block: int, offset: int, size: int) -> Iterator[tuple[str, int, int]]:
        """Names, types and references of what is in a folder."""
        data = _Run(self, self._folder_table, block << 16 | offset)
        left = size - 3
        while left > 0:
            count, start, _ = data.take(_LISTING)
            left -= _LISTING.size
            for _ in range(min(count + 1, 256)):
                place, _, kind, length = data.take(_ENTRY)
                name = data.bytes(length + 1)
                left -= _ENTRY.size + length + 1
                if b"/" in name or b"\0" in name or name in (b".", b"..") or left < 0:
                    raise ValueError("a name in it is none")
                yield name.decode("utf-8", "surrogateescape"), kind, start << 16 | place

    def _read_metadata(self, position: int) -> tuple[bytes, int]:
        """The metadata block at ``position``, and where the next one is."""
        (head,) = struct.unpack("<H", self._read(position, 2))
        size = head & 0x7FFF
        content = self._read(position + 2, size)
        if not head & 0x8000:
            content = _decompressed(content, _METADATA_SIZE)
        if not 0 < len(content) <= _METADATA_SIZE:
            raise ValueError("a block of its tables has an impossible size")
        return content, position + 2 + size

    def _read_fragment(self, number: int) -> bytes:
        if number >= self._fragments:
            raise ValueError("a file lies in a fragment that is not there")
        index = self._fragment_table + 8 * (number // _FRAGMENTS_A_BLOCK)
        (position,) = struct.unpack("<Q", self._read(index, 8))
        entry = self._metadata(position)[0][_FRAGMENT.size * (number % _FRAGMENTS_A_BLOCK) :][: _FRAGMENT.size]
        if len(entry) != _FRAGMENT.size:
            raise ValueError("a file lies in a fragment that is not there")
        start, packed, _ = _FRAGMENT.unpack(entry)
        return self._unpacked(start, packed & ~_STORED, not packed & _STORED, None)

    def _unpacked(self, position: int, packed: int, compressed: bool, size: int | None) -> bytes:
        """A block of data with ``size`` bytes, or, of None, as many as a block may have."""
        if packed > self.block_size:
            raise ValueError("a block in it has an impossible size")
        content = self._read(position, packed)
        if compressed:
            content = _decompressed(content, self.block_size if size is None else size)
        if size is not None and len(content) != size:
            raise ValueError("a block in it has another size than its file says")
        return content

    def _read(self, position: int, size: int) -> bytes:
        if position + size > self._used:
            raise ValueError("a place in it lies behind its end")
        return self._source.read(position, size)


class _Run:
    """A run of bytes in a table, over as many of its metadata blocks as are asked for."""

    def __init__(self, tree: Tree, table: int, reference: int) -> None:
        self._tree = tree
        self._content, self._next = tree._metadata(table + (reference >> 16))
        self._position = reference & 0xFFFF

    def take(self, layout: struct.Struct) -> tuple[int, ...]:
        end = self._position + layout.size
        if end <= len(self._content):
            values = layout.unpack_from(self._content, self._position)
            self._position = end
            return values
        return layout.unpack(self.bytes(layout.size))

    def bytes(self, size: int) -> bytes:
        taken = self._content[self._position : self._position + size]
        self._position += len(taken)
        while len(taken) < size:
            self._content, self._next = self._tree._metadata(self._next)
            self._position = min(size - len(taken), len(self._content))
            taken += self._content[: self._position]
        return taken


def _decompressed(content: bytes, most: int) -> bytes:
    """What one zstd frame holds, never allocating more than ``most`` bytes."""
    import zstandard

    try:
        size = zstandard.frame_content_size(content)
        if size > most:
            raise ValueError("a block in it is larger than it may be")
        return zstandard.ZstdDecompressor().decompress(content, max_output_size=most, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None

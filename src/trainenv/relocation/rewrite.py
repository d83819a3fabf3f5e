"""Rewrites the occurrences of a prefix in one file, and knows where they are afterwards.

Standard library only, Python 3.8 or newer, no import from the rest of trainenv but ``spelling.py``: the
source text of both travels inside ``bin/conda-unpack`` of every archive and runs there under whatever
Python the environment has.

Nothing here searches: ``find`` (in ``search.py``) says once where a prefix occurs, and from then on the
record is moved along with the bytes. That makes a rewrite exact even where the new prefix occurs in
the file on its own account, and makes it reversible::

    moved, occurrences = rewrite(data, occurrences, "/opt/a", "/srv/envs/b", "bin/tool")
    data, occurrences = rewrite(moved, occurrences, "/srv/envs/b", "/opt/a", "bin/tool")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trainenv.relocation.spelling import PLAIN, spelled

if TYPE_CHECKING:
    import mmap

    Data = bytes | mmap.mmap

PLACEHOLDER = "@".join(("/", "trainenv", ""))
"""The canonical prefix of archives. Put together here, so that this file doesn't hold it itself."""

SHEBANG_LIMIT = 127
"""Most bytes of a ``#!`` line, without its newline, that every Linux kernel reads."""


class NoRoomError(Exception):
    """A binary has a string in which the new prefix doesn't fit.

    ``path`` is the file's, ``needed`` and ``room`` are the string's bytes: with the new prefix, and
    the most it can have.
    """

    def __init__(self, path: str, needed: int, room: int) -> None:
        super().__init__(f"{path} has room for {room} bytes where {needed} are needed")
        self.path = path
        self.needed = needed
        self.room = room


class MismatchError(Exception):
    """A file is not the one that its occurrences were recorded of."""

    def __init__(self, path: str, offset: int) -> None:
        super().__init__(f"{path} is not as recorded at byte {offset}")
        self.path = path
        self.offset = offset


class Slot(NamedTuple):
    """A NUL-terminated string of a binary, from its first occurrence on.

    ``capacity`` is the most bytes it may have before its NUL, ``bare`` the bytes it has apart from
    its occurrences.
    """

    start: int
    capacity: int
    bare: int


class Rpath(NamedTuple):
    """A library search path of an ELF file, which can name the prefix or do without.

    The absolute form is ``pieces`` joined by the prefix; ``relative`` is the ``$ORIGIN`` form.
    """

    start: int
    capacity: int
    pieces: tuple[str, ...]
    relative: str


class PycString(NamedTuple):
    """A string of a marshalled code object that holds occurrences.

    ``code`` is its marshal type byte (with the reference flag) as it is when the string is short and
    ASCII: ``z``, interned ``Z``; or ``u``, interned ``t``, where the rest of it is not ASCII; or ``s``
    for bytes. ``bare`` are its bytes apart from its occurrences.
    """

    start: int
    code: int
    bare: int


class Script(NamedTuple):
    """The header of a script that names a Python of the prefix.

    ``depth`` is how many path components lead from the prefix to the script, ``cookie`` the bytes of
    an encoding line, which has to stay the second line. ``self_locating`` says which form the header
    has now. ``found`` is ``(prefix, header)`` for a header that was not written as it is here.
    """

    interpreter: str
    arguments: str
    depth: int
    cookie: int = 0
    self_locating: bool = False
    found: tuple[str, str] | None = None


class Occurrences(NamedTuple):
    """Where a prefix occurs in one file: all that is needed to rewrite it, and to take that back.

    ``kind`` is ``"text"``, ``"binary"`` or ``"pyc"``. ``offsets`` are the bytes at which the prefix
    begins; those of a script's header and of an RPATH are not among them, as ``script`` and ``rpaths``
    describe these whole. ``spellings`` say how the prefix is spelled: at each of the ``offsets``; or at all
    of them, where it is one; plain, where it is none.
    """

    kind: str
    offsets: tuple[int, ...] = ()
    spellings: tuple[str, ...] = ()
    slots: tuple[Slot, ...] = ()
    rpaths: tuple[Rpath, ...] = ()
    strings: tuple[PycString, ...] = ()
    script: Script | None = None

    @property
    def shebang(self) -> tuple[str, str] | None:
        """The interpreter, relative to the prefix, and its arguments, of a Python script."""
        return None if self.script is None else (self.script.interpreter, self.script.arguments)

    def spelling(self, index: int) -> str:
        """How the prefix is spelled at ``offsets[index]``."""
        if not self.spellings:
            return PLAIN
        return self.spellings[index if len(self.spellings) > 1 else 0]

    def spelled(self, index: int, prefix: str) -> bytes:
        """``prefix`` as it has to be at ``offsets[index]``."""
        return spelled(prefix, self.spelling(index))

    def to_json(self) -> dict[str, Any]:
        """Plain values only; what is empty is left out."""
        values = {name: _plain(value) for name, value in self._asdict().items() if value}
        if self.script is not None:
            values["script"] = _plain(self.script._asdict())
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Occurrences:
        """The inverse of ``to_json``. Raises ``ValueError`` for what ``to_json`` never returns."""
        try:
            occurrences = cls(
                kind=values["kind"],
                offsets=tuple(map(int, values.get("offsets", ()))),
                spellings=tuple(values.get("spellings", ())),
                slots=tuple(Slot(*map(int, slot)) for slot in values.get("slots", ())),
                rpaths=tuple(
                    Rpath(int(start), int(capacity), tuple(map(str, pieces)), str(relative))
                    for start, capacity, pieces, relative in values.get("rpaths", ())
                ),
                strings=tuple(PycString(*map(int, string)) for string in values.get("strings", ())),
                script=_script_from_json(values["script"]) if "script" in values else None,
            )
            _by_slot(occurrences)
            if len(occurrences.spellings) not in (0, 1, len(occurrences.offsets)):
                raise ValueError("there are more or fewer spellings than occurrences")
            for spelling in occurrences.spellings:
                spelled(PLACEHOLDER, spelling)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a record of occurrences: {error!r}") from None
        return occurrences


def rewrite(
    data: Data, occurrences: Occurrences, old: str, new: str, path: str, *, portable: bool = False
) -> tuple[bytes, Occurrences]:
    """``data`` with ``new`` for ``old`` at the occurrences, and the occurrences of the result.

    ``path`` is the file's, relative to the prefix. With ``portable`` the result needs the prefix as
    little as can be: Python scripts find their interpreter by themselves, RPATHs begin with ``$ORIGIN``.
    To come back to such a result, ask for ``portable`` again. Raises ``NoRoomError`` for a binary
    without room, ``MismatchError`` if the file is not the one that was recorded.
    """
    if occurrences.kind == "binary":
        check_room(occurrences, new, path, portable=portable)
        rewritten = _rewrite_binary(data, occurrences, old, new, path, portable)
        return rewritten, shifted(occurrences, old, new, portable=portable)
    edits = _edits(occurrences, old, new, portable)
    return _apply(data, edits, path), _after(edits, occurrences, new, portable)


def shifted(occurrences: Occurrences, old: str, new: str, *, portable: bool = False) -> Occurrences:
    """The occurrences of the same file when it holds ``new`` instead of ``old``.

    What ``rewrite`` with the same arguments returns, without the data.
    """
    if occurrences.kind == "binary":
        return occurrences._replace(offsets=_shifted_in_slots(occurrences, old, new))
    return _after(_edits(occurrences, old, new, portable), occurrences, new, portable)


def growth(occurrences: Occurrences, old: str, new: str) -> int:
    """How many bytes longer ``rewrite`` from ``old`` to ``new`` makes the file; binaries keep their size."""
    if occurrences.kind == "binary":
        return 0
    return sum(len(edit.after) - len(edit.before) for edit in _edits(occurrences, old, new, portable=False))


def check_room(occurrences: Occurrences, new: str, path: str, *, portable: bool = False) -> None:
    """Raise ``NoRoomError`` if ``rewrite`` to ``new`` would, without the data."""
    for slot, members in _by_slot(occurrences):
        needed = slot.bare + sum(len(occurrences.spelled(index, new)) for index in members)
        if needed > slot.capacity:
            raise NoRoomError(path, needed, slot.capacity)
    for rpath in occurrences.rpaths:
        text = _rpath_text(rpath, new, portable)
        if len(text) > rpath.capacity:
            raise NoRoomError(path, len(text), rpath.capacity)


def room(occurrences: Occurrences) -> int | None:
    """The most bytes a prefix may have to fit everywhere in the file; ``None`` if any does."""
    limits = [(s.capacity - s.bare) // len(members) for s, members in _by_slot(occurrences) if members]
    for rpath in occurrences.rpaths:
        if len(rpath.relative.encode()) > rpath.capacity:
            bare = sum(len(piece.encode()) for piece in rpath.pieces)
            limits.append((rpath.capacity - bare) // (len(rpath.pieces) - 1))
    return min(limits) if limits else None


def moved_link(target: str, old: str, new: str) -> str | None:
    """Where a symlink to ``target`` has to point when ``old`` becomes ``new``; ``None`` if it stays."""
    if target == old or target.startswith(old + "/"):
        return new + target[len(old) :]
    return None


def with_source_size(pyc: bytes, before: int, after: int) -> bytes:
    """``pyc`` for a source of ``after`` bytes, if it was for one of ``before`` bytes.

    A ``.pyc`` counts only while it records the size of its source (and its modification time), so it
    follows a source that a rewrite made longer or shorter.
    """
    recorded = (before & 0xFFFFFFFF).to_bytes(4, "little")
    if len(pyc) < 16 or pyc[2:4] != b"\r\n" or pyc[4:8] != b"\0\0\0\0" or pyc[12:16] != recorded:
        return pyc
    return pyc[:12] + (after & 0xFFFFFFFF).to_bytes(4, "little") + pyc[16:]


def plain_header(prefix: str, interpreter: str, arguments: str) -> bytes:
    """The ordinary ``#!`` line."""
    return f"#!{prefix}/{interpreter} {arguments}".rstrip(" ").encode() + b"\n"


def self_locating_header(interpreter: str, arguments: str, depth: int) -> tuple[bytes, bytes]:
    """The header of a script that finds its interpreter from its own place: first line, second line.

    The second line begins with a form feed. Python skips that, so that the line is a comment and the
    script keeps its docstring and its ``__future__`` imports; to ``sh`` a ``#`` in the middle of a word
    begins no comment, so it tries a command that isn't there and goes on: up ``depth`` path components
    from where the script really is, and from there to the interpreter.
    """
    if " " in arguments:
        arguments = f"'{arguments}'"
    up = "/*" * depth
    line = (
        '\f#/ 2>/dev/null;trainenv_script=$(readlink -f -- "$0")||exit 127;'
        f'exec "${{trainenv_script%{up}}}/{interpreter}" {arguments + " " if arguments else ""}"$0" "$@" '
        "# finds the interpreter of its own environment\n"
    )
    return b"#!/bin/sh\n", line.encode()


def is_startable(header: bytes) -> bool:
    """Whether the kernel finds the interpreter of a plain ``#!`` line: not too long, no blank in it."""
    line = header[2:].rstrip(b"\n")
    return len(line) + 2 <= SHEBANG_LIMIT and b"\t" not in line


def pyc_string_head(code: int, size: int, ascii_prefix: bool) -> bytes:
    """The marshal type and length before a string of ``size`` bytes; ``code`` as in ``PycString``."""
    flag, family = code & 0x80, chr(code & 0x7F)
    if family in "zZ" and not ascii_prefix:
        family = {"z": "u", "Z": "t"}[family]
    elif family in "zZ" and size > 255:
        family = {"z": "a", "Z": "A"}[family]
    width = 1 if family in "zZ" else 4
    return bytes([ord(family) | flag]) + size.to_bytes(width, "little")


class _Edit(NamedTuple):
    """``after`` in the place of ``before`` at byte ``start``; ``what``: header, prefix or string."""

    start: int
    before: bytes
    after: bytes
    what: str


def _edits(occurrences: Occurrences, old: str, new: str, portable: bool) -> list[_Edit]:
    """All changes to a text or pyc file, in the order of the file."""
    edits: list[_Edit] = []
    if occurrences.script is not None:
        edits += _header_edits(occurrences.script, old, new, portable)
    offsets = occurrences.offsets
    index = 0
    for position, string in enumerate(occurrences.strings):
        following = occurrences.strings[position + 1 : position + 2]
        end = following[0].start if following else None
        begin = index
        while index < len(offsets) and (end is None or offsets[index] < end):
            index += 1
        edits.append(_string_edit(occurrences, string, range(begin, index), old, new))
        edits += (_prefix_edit(occurrences, member, old, new) for member in range(begin, index))
    edits += (_prefix_edit(occurrences, member, old, new) for member in range(index, len(offsets)))
    return edits


def _after(edits: list[_Edit], occurrences: Occurrences, new: str, portable: bool) -> Occurrences:
    """The occurrences of a text or pyc file after ``edits``, which made it hold ``new``."""
    offsets: list[int] = []
    strings: list[int] = []
    shift = 0
    for edit in edits:
        if edit.what == "prefix":
            offsets.append(edit.start + shift)
        elif edit.what == "string":
            strings.append(edit.start + shift)
        shift += len(edit.after) - len(edit.before)
    script = occurrences.script
    if script is not None:
        script = script._replace(
            self_locating=_becomes_self_locating(script, new, portable),
            found=None if portable else script.found,
        )
    return occurrences._replace(
        offsets=tuple(offsets),
        strings=tuple(s._replace(start=strings[i]) for i, s in enumerate(occurrences.strings)),
        script=script,
    )


def _prefix_edit(occurrences: Occurrences, index: int, old: str, new: str) -> _Edit:
    before, after = occurrences.spelled(index, old), occurrences.spelled(index, new)
    return _Edit(occurrences.offsets[index], before, after, "prefix")


def _string_edit(occurrences: Occurrences, string: PycString, members: range, old: str, new: str) -> _Edit:
    def head(prefix: str) -> bytes:
        inside = b"".join([occurrences.spelled(index, prefix) for index in members])
        return pyc_string_head(string.code, string.bare + len(inside), inside.isascii())

    return _Edit(string.start, head(old), head(new), "string")


def _header_edits(script: Script, old: str, new: str, portable: bool) -> list[_Edit]:
    first, second = _header(script, old, script.self_locating)
    new_first, new_second = _header(script, new, _becomes_self_locating(script, new, portable))
    return [
        _Edit(0, first, new_first, "header"),
        _Edit(len(first) + script.cookie, second, new_second, "header"),
    ]


def _header(script: Script, prefix: str, self_locating: bool) -> tuple[bytes, bytes]:
    """What stands before and after the encoding line."""
    if self_locating:
        return self_locating_header(script.interpreter, script.arguments, script.depth)
    if script.found is not None and script.found[0] == prefix:
        return script.found[1].encode(), b""
    return plain_header(prefix, script.interpreter, script.arguments), b""


def _becomes_self_locating(script: Script, new: str, portable: bool) -> bool:
    if portable:
        return True
    if script.found is not None and script.found[0] == new:
        return False
    return " " in new or not is_startable(plain_header(new, script.interpreter, script.arguments))


def _apply(data: Data, edits: list[_Edit], path: str) -> bytes:
    pieces: list[bytes] = []
    position = 0
    for edit in edits:
        end = edit.start + len(edit.before)
        if edit.start < position or data[edit.start : end] != edit.before:
            raise MismatchError(path, edit.start)
        pieces += (data[position : edit.start], edit.after)
        position = end
    pieces.append(data[position:])
    return b"".join(pieces)


def _rewrite_binary(data: Data, occurrences: Occurrences, old: str, new: str, path: str, portable: bool) -> bytes:
    """Each string is replaced within its own room, so no other byte moves."""
    strings: list[tuple[int, bytes, bytes]] = []
    for slot, members in _by_slot(occurrences):
        before = _string_at(data, slot.start, slot.capacity)
        edits = [_prefix_edit(occurrences, index, old, new) for index in members]
        inner = [edit._replace(start=edit.start - slot.start) for edit in edits]
        if len(before) != slot.bare + sum(len(edit.before) for edit in inner):
            raise MismatchError(path, slot.start)
        strings.append((slot.start, before, _apply(before, inner, path)))
    for rpath in occurrences.rpaths:
        before = _string_at(data, rpath.start, rpath.capacity)
        if before not in (rpath.relative.encode(), old.join(rpath.pieces).encode()):
            raise MismatchError(path, rpath.start)
        strings.append((rpath.start, before, _rpath_text(rpath, new, portable)))
    pieces: list[bytes] = []
    position = 0
    for start, before, after in sorted(strings):
        pieces += (data[position:start], after, b"\0" * (len(before) - len(after)))
        position = start + max(len(before), len(after))
        if data[start + len(before) : position].strip(b"\0"):
            raise MismatchError(path, start)
    pieces.append(data[position:])
    return b"".join(pieces)


def _string_at(data: Data, start: int, capacity: int) -> bytes:
    end = data.find(b"\0", start, start + capacity)
    return data[start : start + capacity if end < 0 else end]


def _rpath_text(rpath: Rpath, prefix: str, portable: bool) -> bytes:
    """The form to write: absolute, but relative for ``portable`` or where only that fits."""
    absolute, relative = prefix.join(rpath.pieces).encode(), rpath.relative.encode()
    if len(relative) <= rpath.capacity and (portable or len(absolute) > rpath.capacity):
        return relative
    return absolute


def _by_slot(occurrences: Occurrences) -> list[tuple[Slot, list[int]]]:
    """Each slot with the indices of the offsets inside it."""
    grouped: list[tuple[Slot, list[int]]] = [(slot, []) for slot in occurrences.slots]
    position = 0
    for index, offset in enumerate(occurrences.offsets if grouped else ()):
        while offset >= grouped[position][0].start + grouped[position][0].capacity:
            position += 1
            if position == len(grouped):
                raise ValueError(f"the occurrence at byte {offset} is in no string of the binary")
        grouped[position][1].append(index)
    return grouped


def _shifted_in_slots(occurrences: Occurrences, old: str, new: str) -> tuple[int, ...]:
    offsets: list[int] = []
    for _, members in _by_slot(occurrences):
        shift = 0
        for index in members:
            offsets.append(occurrences.offsets[index] + shift)
            shift += len(occurrences.spelled(index, new)) - len(occurrences.spelled(index, old))
    return tuple(offsets)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _script_from_json(values: dict[str, Any]) -> Script:
    found = values["found"]
    return Script(
        interpreter=str(values["interpreter"]),
        arguments=str(values["arguments"]),
        depth=int(values["depth"]),
        cookie=int(values["cookie"]),
        self_locating=bool(values["self_locating"]),
        found=None if found is None else (str(found[0]), str(found[1])),
    )

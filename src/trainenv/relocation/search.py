"""Finds where a prefix occurs in one file, and how it has to be rewritten there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from trainenv.relocation import elf, pyc
from trainenv.relocation.notation import Notation, may_escape_slashes
from trainenv.relocation.rewrite import (
    Occurrences,
    PycString,
    Rpath,
    Script,
    Slot,
    is_startable,
    plain_header,
    pyc_string_head,
    self_locating_header,
)
from trainenv.relocation.spelling import PLAIN, SPELLINGS, spelled

if TYPE_CHECKING:
    from trainenv.relocation.rewrite import Data


class _Hit(NamedTuple):
    """An occurrence: where it begins and ends, and how the prefix is spelled there."""

    start: int
    end: int
    spelling: str


_RUN = 4096
"""How far back the path that an occurrence may be the end of is looked at: no path is longer."""

_PATH_BYTES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-@%~/" + bytes(range(0x80, 0x100))
_ESCAPED = re.compile(rb"\\u([0-9a-fA-F]{4})")
_SAME_IN_ALL = re.compile(r"[A-Za-z0-9_./-]+")
_RARE = 6
"""From this many letters on, a part of the prefix is looked for instead of each spelling of the whole."""
_NAME_GOES_ON = re.compile(rb"\.*[\w+\-@%~]|\.+/")

_INTERPRETER = rb"(?P<interpreter>(?:[A-Za-z0-9_.+-]+/)*(?:python|pypy)[0-9.]*t?)"
_ARGUMENTS = rb"(?P<arguments>[A-Za-z0-9_=,.+:/%-]+(?: [A-Za-z0-9_=,.+:/%-]+)*)"
_ENCODING_LINE = re.compile(rb"[ \t]*#.*?coding[:=][ \t]*[-_.a-zA-Z0-9]+.*\n")
_MENTIONS_ENCODING = re.compile(rb"coding[:=]")
_SELF_LOCATING = re.compile(
    rb"\f#/ 2>/dev/null;trainenv_script=[^\n]*\"\$\{trainenv_script%(?P<up>(?:/\*)+)\}/" + _INTERPRETER + rb"\" "
    rb"(?:'?" + _ARGUMENTS + rb"'? )?\"\$0\" \"\$@\"[^\n]*\n"
)
_LONGEST_HEADER = 16384
_MODULE = re.compile(r"lib(?:64)?/python[^/]*/.*\.py\Z")
"""Where a ``#!`` line is an ornament: an imported file must keep its line numbers."""

_NOT_C_STRINGS = (b"PK\x03\x04", b"SQLite format 3\0")
"""How files begin whose strings have a recorded length or a checksum: rewriting would break them."""


def find(data: Data, prefix: str, path: str, *, placeholder_length: int | None = None) -> Occurrences | None:
    """Where ``prefix`` occurs in the file with bytes ``data`` and, relative to the prefix, ``path``.

    ``None`` when there is nothing to rewrite. ``placeholder_length`` is the length of the prefix that
    the file was built with, where a conda package records it: a binary then has that much room.

    A script with a self-locating header counts although it doesn't name the prefix, as another
    prefix can give it a plain header.
    """
    checked_prefix(prefix)
    if path.endswith(".pyc"):
        return _find_in_pyc(data, prefix, path) if pyc.is_readable(data) else None
    hits = _hits(data, prefix, path)
    if data[:2] == b"#!":
        return _find_in_script(data, prefix, path, hits)
    if not hits:
        return None
    if data.find(b"\0") >= 0:
        return _find_in_binary(data, prefix, path, hits, placeholder_length)
    return Occurrences("text", _offsets(hits), _spellings(hits))


def holds(data: Data, prefix: str, path: str) -> bool:
    """Whether ``prefix`` occurs in the file at all, also where it can't be rewritten."""
    if not _may_hold(data, prefix, path):
        return False
    if path.endswith(".pyc") and pyc.is_readable(data):
        strings = _strings_with_hits(data, prefix, path)
        if strings is not None:
            return bool(strings)
    return bool(_hits(data, prefix, path))


@lru_cache(maxsize=64)
def checked_prefix(prefix: str) -> str:
    """``prefix``, if it is an absolute path that can stand in files; else ``ValueError``."""
    if not prefix.startswith("/") or prefix.endswith("/") or "\n" in prefix or "\0" in prefix:
        raise ValueError(f"{prefix!r} can't be the prefix of an environment")
    try:
        prefix.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{prefix!r} is not valid UTF-8") from None
    return prefix


def needles(prefix: str, path: str) -> tuple[bytes, ...]:
    """What a file ``path`` without any occurrence of ``prefix`` has none of.

    One for a prefix with a part that is the same in all spellings and long enough to be rare.
    """
    return _needles(prefix, may_escape_slashes(path))


@lru_cache(maxsize=64)
def _needles(prefix: str, with_escaped_slashes: bool) -> tuple[bytes, ...]:
    common = max(_SAME_IN_ALL.findall(prefix), key=len)
    if len(common) < _RARE:
        return tuple(_spelled(prefix, with_escaped_slashes))
    return (common.encode(), spelled(prefix, "json-slashes")) if with_escaped_slashes else (common.encode(),)


@lru_cache(maxsize=64)
def _spelled(prefix: str, with_escaped_slashes: bool) -> dict[bytes, tuple[str, ...]]:
    """The different byte strings that spell ``prefix``, each with the spellings that give it."""
    found: dict[bytes, tuple[str, ...]] = {}
    for spelling in SPELLINGS:
        if spelling != "json-slashes" or with_escaped_slashes:
            text = spelled(prefix, spelling)
            found[text] = (*found.get(text, ()), spelling)
    return found


def _may_hold(data: Data, prefix: str, path: str) -> bool:
    for needle in needles(prefix, path):  # noqa: SIM110 - a generator would cost as much as the search, for each file
        if data.find(needle) >= 0:
            return True
    return False


def _hits(data: Data, prefix: str, path: str) -> list[_Hit]:
    """All occurrences, in the order of the file.

    Where several spellings are the same, the notation decides; where one begins as another, the longer one counts.
    """
    if not _may_hold(data, prefix, path):
        return []
    notation = Notation(data, path)
    found = [
        (start, start + len(text), spellings)
        for text, spellings in _spelled(prefix, may_escape_slashes(path)).items()
        for start in _starts(data, text)
    ]
    hits: list[_Hit] = []
    end = 0
    for start, stop, spellings in sorted(found, key=lambda hit: (hit[0], -hit[1])):
        if start < end:
            continue
        if all(spelling.startswith("url") for spelling in spellings) and not notation.is_url(start):
            continue
        best = next(filter(spellings.__contains__, notation.at(start)), spellings[0])
        hits.append(_Hit(start, stop, best))
        end = stop
    return hits


def _starts(data: Data, needle: bytes) -> Iterator[int]:
    """Where ``needle`` stands as a whole path or as the beginning of one."""
    start = data.find(needle)
    while start >= 0:
        end = start + len(needle)
        whole = _begins_path(data[max(0, start - _RUN) : start]) and _ends_name(data[end : end + 64])
        if whole:
            yield start
        start = data.find(needle, end if whole else start + 1)


def _begins_path(before: bytes) -> bool:
    """Whether an absolute path can begin after ``before``.

    It can unless it would continue another path: ``/mnt`` before it, or ``..``; but ``-L``, ``PATH=`` and
    the slashes of ``file://`` may stand there. So may a lone ``.``: Python's own ``_sysconfigdata`` has
    ``./PREFIX`` since 3.11.
    """
    if b"\\u" in before:
        before = _ESCAPED.sub(_unescaped, before)
    run = before[len(before.rstrip(_PATH_BYTES)) :]
    if not run.isascii():
        text = run.decode("utf-8", "replace")
        stop = next((i for i in range(len(text), 0, -1) if text[i - 1] > "\x7f" and not text[i - 1].isalnum()), 0)
        run = text[stop:].encode()
    if not run.strip(b"/"):
        return True
    return run == b"." or (b"/" not in run and bool(run.strip(b".~")))


def _ends_name(after: bytes) -> bool:
    """Whether a file name can end before ``after``: a name's letters and ``.bak`` go on, a full stop ends."""
    if escaped := _ESCAPED.match(after):
        after = _unescaped(escaped)
    if not after or after[0] < 0x80:
        return _NAME_GOES_ON.match(after) is None
    return not after[:4].decode("utf-8", "replace")[:1].isalnum()


def _unescaped(match: re.Match[bytes]) -> bytes:
    return chr(int(match[1], 16)).encode("utf-8", "replace")


def _find_in_script(data: Data, prefix: str, path: str, hits: list[_Hit]) -> Occurrences | None:
    """A script is text, but for what a program with its own format may have put behind the first line."""
    script, body = (None, 0) if _MODULE.match(path) else _header(data, prefix, path)
    if script is not None:
        hits = [hit for hit in hits if hit.start >= body]
    if data.find(b"\0") >= 0:
        text_end = body or data.find(b"\n")
        hits = [hit for hit in hits if hit.start < text_end]
    if not hits and script is None:
        return None
    return Occurrences("text", _offsets(hits), _spellings(hits), script=script)


def _header(data: Data, prefix: str, path: str) -> tuple[Script | None, int]:
    """The header of a Python script and where its body begins, behind the encoding line if there is one."""
    head = data[:_LONGEST_HEADER]
    depth = path.count("/") + 1
    if head.startswith(b"#!/bin/sh\n"):
        script = _self_locating_script(head, depth)
        if script is not None:
            return script, sum(map(len, _self_locating_parts(script))) + script.cookie
    match = _header_patterns(prefix).match(head)
    if match is None:
        return None, 0
    interpreter = (match["plain"] or match["called"]).decode()
    arguments = (match["plain_arguments"] or match["called_arguments"] or b"").decode()
    header = match.group()
    if prefix in arguments or _MENTIONS_ENCODING.search(header):
        return None, 0
    ours = plain_header(prefix, interpreter, arguments)
    as_ours = header == ours and " " not in prefix and is_startable(header)
    encoding = _ENCODING_LINE.match(head, match.end())
    line = b"" if encoding is None else encoding.group()
    if any(text in line for text in _spelled(prefix, with_escaped_slashes=False)):
        return None, 0
    found = None if as_ours else (prefix, header.decode())
    return Script(interpreter, arguments, depth, len(line), False, found), len(header) + len(line)


def _self_locating_script(head: bytes, depth: int) -> Script | None:
    first = head.index(b"\n") + 1
    encoding = _ENCODING_LINE.match(head, first)
    cookie = 0 if encoding is None else len(encoding.group())
    match = _SELF_LOCATING.match(head, first + cookie)
    if match is None:
        return None
    arguments = (match["arguments"] or b"").decode()
    script = Script(match["interpreter"].decode(), arguments, depth, cookie, self_locating=True)
    moved = cookie or not _ENCODING_LINE.match(head, match.end())
    return script if moved and match.group() == _self_locating_parts(script)[1] else None


def _self_locating_parts(script: Script) -> tuple[bytes, bytes]:
    return self_locating_header(script.interpreter, script.arguments, script.depth)


@lru_cache(maxsize=8)
def _header_patterns(prefix: str) -> re.Pattern[bytes]:
    """The plain ``#!`` line, and the ``sh`` detour that installers write where that would be too long."""
    escaped = re.escape(prefix.encode())
    in_a_shell = {spelled(prefix, spelling) for spelling in SPELLINGS if spelling.startswith((PLAIN, "shell"))}
    called_prefix = b"(?:" + b"|".join(map(re.escape, sorted(in_a_shell))) + b")"

    def named(name: bytes, pattern: bytes) -> bytes:
        return pattern.replace(b"<interpreter>", b"<" + name + b">").replace(
            b"<arguments>", b"<" + name + b"_arguments>"
        )

    plain = rb"#![ \t]*" + escaped + b"/" + _INTERPRETER + rb"(?:[ \t]+" + _ARGUMENTS + rb")?[ \t]*\n"
    called = (
        rb"#!/bin/sh\n'''exec' (?P<quote>['\"]?)" + called_prefix + b"/" + _INTERPRETER + rb"(?P=quote)"
        rb"(?: (?P<arguments>[A-Za-z0-9_=,.+-]+))? \"\$0\" \"\$@\"(?:\n' '''| #''')\n"
    )
    return re.compile(b"(?:" + named(b"plain", plain) + b"|" + named(b"called", called) + b")")


def _find_in_binary(
    data: Data, prefix: str, path: str, hits: list[_Hit], placeholder_length: int | None
) -> Occurrences | None:
    if data[:16].startswith(_NOT_C_STRINGS):
        return None
    grown = max(0, (placeholder_length or 0) - len(prefix.encode()))
    paths = elf.rpaths(data) if data[:4] == elf.MAGIC else []
    slots: list[Slot] = []
    rpaths: list[Rpath] = []
    others: list[_Hit] = []
    for end, members in _by_string(data, hits):
        spare = _padding(data, end, grown * len(members))
        start = members[0].start
        path_start = next((at for at, text in paths if at <= start < at + len(text)), None)
        rpath = None
        if path_start is not None and all(hit.spelling == PLAIN for hit in members):
            rpath = _rpath(data[path_start:end], [hit.start - path_start for hit in members], prefix, path)
        if path_start is not None and rpath is not None:
            rpaths.append(Rpath(path_start, end - path_start + spare, *rpath))
        else:
            slots.append(Slot(start, end - start + spare, end - start - sum(hit.end - hit.start for hit in members)))
            others += members
    return Occurrences("binary", _offsets(others), _spellings(others), slots=tuple(slots), rpaths=tuple(rpaths))


def _by_string(data: Data, hits: list[_Hit]) -> Iterator[tuple[int, list[_Hit]]]:
    """The hits of each NUL-terminated string, with the string's end."""
    members: list[_Hit] = []
    end = 0
    for hit in hits:
        if members and hit.start > end:
            yield end, members
            members = []
        if not members:
            end = data.find(b"\0", hit.start)
            end = len(data) if end < 0 else end
        members.append(hit)
    if members:
        yield end, members


def _padding(data: Data, end: int, most: int) -> int:
    """How many of the ``most`` bytes from ``end`` on are free: NUL, and followed by the string's own."""
    if most == 0:
        return 0
    after = data[end : end + most + 1]
    return max(0, len(after) - len(after.lstrip(b"\0")) - 1)


def _rpath(text: bytes, hits: list[int], prefix: str, path: str) -> tuple[tuple[str, ...], str] | None:
    """Pieces and relative form of a search path; ``None`` if it can't do without the prefix."""
    try:
        relative = elf.origin_relative(text.decode(), prefix, path)
    except UnicodeDecodeError:
        return None
    if _hits(relative.encode(), prefix, path):
        return None
    size = len(prefix.encode())
    begins = [0, *(hit + size for hit in hits)]
    pieces = tuple(text[b:e].decode() for b, e in zip(begins, [*hits, len(text)], strict=True))
    return pieces, relative


def _find_in_pyc(data: Data, prefix: str, path: str) -> Occurrences | None:
    """``None`` also for a file whose strings can't be told apart."""
    if not _may_hold(data, prefix, path):
        return None
    hits: list[_Hit] = []
    strings: list[PycString] = []
    for string, inner in _strings_with_hits(data, prefix, path) or ():
        content = data[string.content : string.end]
        rest, inside = _apart(content, inner)
        code = _short_code(data[string.start], rest.isascii())
        strings.append(PycString(string.start, code, len(rest)))
        hits += (_Hit(string.content + start, string.content + end, spelling) for start, end, spelling in inner)
        if pyc_string_head(code, len(content), inside.isascii()) != data[string.start : string.content]:
            return None
    if not hits:
        return None
    return Occurrences("pyc", _offsets(hits), _spellings(hits), strings=tuple(strings))


def _strings_with_hits(data: Data, prefix: str, path: str) -> list[tuple[pyc.FoundString, list[_Hit]]] | None:
    """The strings of a ``.pyc`` that hold the prefix, with the hits counted from their content.

    Each string is looked at alone: the length byte before it may look like a letter of a path.
    ``None`` if the strings can't be told apart.
    """
    texts = _spelled(prefix, with_escaped_slashes=False)
    ranges = sorted({(at, at + len(text)) for text in texts for at in _raw_starts(data, text)})
    strings = pyc.strings_with(data, ranges)
    if strings is None:
        return None
    found = ((string, _hits(data[string.content : string.end], prefix, path)) for string in strings)
    return [(string, hits) for string, hits in found if hits]


def _short_code(code: int, rest_is_ascii: bool) -> int:
    """The code that ``PycString`` records for a string with this marshal type byte."""
    family = {"a": "z", "A": "Z"}.get(chr(code & 0x7F), chr(code & 0x7F))
    if rest_is_ascii:
        family = {"u": "z", "t": "Z"}.get(family, family)
    return ord(family) | code & 0x80


def _raw_starts(data: Data, needle: bytes) -> Iterator[int]:
    start = data.find(needle)
    while start >= 0:
        yield start
        start = data.find(needle, start + 1)


def _apart(content: bytes, hits: list[_Hit]) -> tuple[bytes, bytes]:
    """What of ``content`` is outside of the occurrences, and what is inside."""
    begins = [0, *(hit.end for hit in hits)]
    ends = [*(hit.start for hit in hits), len(content)]
    outside = b"".join([content[begin:end] for begin, end in zip(begins, ends, strict=True)])
    return outside, b"".join([content[hit.start : hit.end] for hit in hits])


def _offsets(hits: list[_Hit]) -> tuple[int, ...]:
    return tuple(hit.start for hit in hits)


def _spellings(hits: list[_Hit]) -> tuple[str, ...]:
    """As ``Occurrences`` has them: none if all are plain, one if all are the same."""
    different = {hit.spelling for hit in hits}
    if len(different) > 1:
        return tuple(hit.spelling for hit in hits)
    return tuple(different - {PLAIN})

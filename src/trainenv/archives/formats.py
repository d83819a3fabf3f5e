"""The formats that an archive can be written in, and which one is meant."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainenv.errors import UsageError

_MOST_THREADS = 8


@dataclass(frozen=True)
class Format:
    """``endings`` are those of its files' names, the usual one first. ``levels`` is empty where nothing is packed."""

    name: str
    endings: tuple[str, ...]
    levels: range = range(0)
    level: int = 0


TAR_ZST = Format("tar.zst", (".tar.zst", ".tzst", ".tar.zstd"), range(1, 20), 3)
TAR_GZ = Format("tar.gz", (".tar.gz", ".tgz"), range(1, 10), 4)
TAR = Format("tar", (".tar",))
SQUASHFS = Format("squashfs", (".squashfs", ".sqfs", ".sqsh", ".sfs"), range(1, 23), 3)
FOLDER = Format("folder", ("",))

FORMATS = {format.name: format for format in (TAR_ZST, TAR_GZ, TAR, SQUASHFS, FOLDER)}

SCRIPT_ENDING = ".sh"

_OF_OTHERS = (".zip", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.lz4", ".7z", ".rar", ".parcel", ".conda")
_IN_SCRIPTS = (TAR_GZ, TAR_ZST, TAR)


@dataclass(frozen=True)
class Form:
    """How an archive is to be written; ``threads`` pack it. A self-extracting one is a script before all else."""

    format: Format
    level: int
    threads: int
    self_extracting: bool = False

    @property
    def ending(self) -> str:
        return SCRIPT_ENDING if self.self_extracting else self.format.endings[0]


def chosen(
    output: Path | None,
    name: str | None = None,
    *,
    self_extracting: bool = False,
    level: int | None = None,
    threads: int | None = None,
) -> Form:
    """What is meant by format ``name`` (None: as ``output`` is called) and the other wishes.

    Raises ``UsageError`` for wishes that contradict each other.
    """
    called = "" if output is None else output.name.lower()
    of_name = _named(name)
    of_ending = next((format for format in FORMATS.values() if _ends(called, format.endings)), None)
    if self_extracting or called.endswith(SCRIPT_ENDING):
        format = _in_script(output, of_name, of_ending)
        self_extracting = True
    else:
        format = _agreed(output, of_name, of_ending)
    if level is not None and level not in format.levels:
        if not format.levels:
            raise UsageError(f"format {format.name} has no --level", cause="it is not compressed")
        raise UsageError(
            f"compression level {level} does not exist in {format.name}",
            hint=f"Choose one from {format.levels[0]} to {format.levels[-1]}",
        )
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads can't do anything", hint="Give 1 or more")
    if threads is not None and not format.levels:
        raise UsageError(f"format {format.name} has no --threads", cause="it is not compressed")
    threads = threads or min(len(os.sched_getaffinity(0)), _MOST_THREADS)
    return Form(format, format.level if level is None else level, threads if format.levels else 1, self_extracting)


def _named(name: str | None) -> Format | None:
    if name is None:
        return None
    if name not in FORMATS:
        raise UsageError(f"there is no format {name!r}", hint=f"There are: {', '.join(FORMATS)}")
    return FORMATS[name]


def _agreed(output: Path | None, of_name: Format | None, of_ending: Format | None) -> Format:
    called = "" if output is None else output.name.lower()
    if of_name is None:
        if _ends(called, _OF_OTHERS):
            raise UsageError(
                f"trainenv writes no archive such as {output}",
                hint=f"End its name in one of {', '.join(each.endings[0] for each in FORMATS.values() if each.levels)}",
            )
        return of_ending or TAR_ZST
    if of_ending not in (None, of_name) or _ends(called, _OF_OTHERS):
        raise UsageError(
            f"{output} is no name for format {of_name.name}",
            cause="other programs would take it for another format",
            hint=f"End it in {of_name.endings[0]}" if of_name.endings[0] else "Leave out the ending",
        )
    return of_name


def _in_script(output: Path | None, of_name: Format | None, of_ending: Format | None) -> Format:
    format = of_name or TAR_GZ
    if format not in _IN_SCRIPTS:
        raise UsageError(
            f"format {format.name} can't be self-extracting",
            hint=f"Choose from {', '.join(each.name for each in _IN_SCRIPTS)}",
        )
    if of_ending is not None:
        raise UsageError(
            f"{output} is no name for a self-extracting archive",
            cause="it is a script, which other programs can't unpack",
            hint=f"End it in {SCRIPT_ENDING}",
        )
    return format


def _ends(called: str, endings: Sequence[str]) -> bool:
    return any(ending and called.endswith(ending) for ending in endings)

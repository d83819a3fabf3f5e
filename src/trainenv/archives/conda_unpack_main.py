"""Gives the files of an unpacked environment the prefix under which it lies: the work of ``conda-unpack``.

Standard library only, Python 3.8 or newer: ``conda_unpack.py`` puts the text of this file into
``bin/conda-unpack`` of every archive, behind those of ``relocation/spelling.py`` and ``rewrite.py``.

Each file is written beside its old form and renamed over it. ``conda-meta/trainenv/prefix`` says which
prefix the files hold. While files are changed, ``conda-meta/trainenv/moving`` lists the prefixes that
any of them may hold, so that after a kill the next run can tell, by the recorded sha256, which one
each does.
"""

from __future__ import annotations

import argparse
import fcntl
import glob
import hashlib
import importlib
import json
import os
import re
import signal
import sys
import warnings
from typing import Any

from trainenv.relocation.rewrite import (
    PLACEHOLDER,
    MismatchError,
    NoRoomError,
    Occurrences,
    check_room,
    rewrite,
    shifted,
    with_source_size,
)

RECORDS = "conda-meta/trainenv"
_IMPOSSIBLE = re.compile("[:\x00-\x1f\x7f\ud800-\udfff]")
"""What no prefix can have: PATH has them between colons, ``prefix`` and ``moving`` on lines."""
DELTA_NOTE = "THIS-IS-A-DELTA.txt"


class Mover:
    """Moves the files below ``root`` from the prefix they hold to ``new``.

    ``files`` is what ``relocation.json`` records; ``candidates`` are the prefixes a file may hold.
    """

    def __init__(self, root: str, files: dict[str, Any], candidates: list[str], new: str) -> None:
        self.root = root
        self.files = files
        self.candidates = candidates
        self.new = new
        self.changed: list[str] = []
        self.count = 0
        self._sizes: dict[str, tuple[int, dict[str, int]]] = {}

    def check(self) -> None:
        """Raise ``NoRoomError`` before anything is written."""
        for path, entry in self.files.items():
            check_room(Occurrences.from_json(entry), self.new, path)

    def run(self) -> None:
        """Move every file; those that are there already are left as they are."""
        for path in sorted(self.files, key=lambda path: (path.endswith(".pyc"), path)):
            self._move(path)

    def _move(self, path: str) -> None:
        full = os.path.join(self.root, path)
        try:
            with open(full, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return
        entry = self.files[path]
        occurrences = Occurrences.from_json(entry)
        size, sizes = self._sizes.get(_source_of(path), (0, {}))
        for prefix in self.candidates:
            canonical = _canonical(data, occurrences, prefix, path)
            if canonical is not None and prefix in sizes:
                canonical = with_source_size(canonical, sizes[prefix], size)
            if canonical is not None and hashlib.sha256(canonical).hexdigest() == entry["sha256"]:
                break
        else:
            self.changed.append(path)
            return
        moved = rewrite(canonical, occurrences, PLACEHOLDER, self.new, path)[0]
        if sizes:
            moved = with_source_size(moved, size, sizes[self.new])
        if moved != data:
            _replace(full, moved)
            self.count += 1
        if path.endswith(".py"):
            self._note_sizes(path, canonical, occurrences)

    def _note_sizes(self, path: str, canonical: bytes, occurrences: Occurrences) -> None:
        """A ``.pyc`` records the size of its source: remember it for those that hold the prefix
        themselves, mend it in the others."""
        sizes = {
            prefix: len(rewrite(canonical, occurrences, PLACEHOLDER, prefix, path)[0])
            for prefix in [*self.candidates, self.new]
        }
        self._sizes[path] = (len(canonical), sizes)
        folder, name = os.path.split(path)
        pattern = os.path.join(glob.escape(os.path.join(self.root, folder)), "__pycache__", glob.escape(name[:-3]))
        for pyc in glob.glob(pattern + ".*.pyc"):
            if os.path.relpath(pyc, self.root) in self.files:
                continue
            with open(pyc, "rb") as file:
                data = file.read()
            for prefix in self.candidates:
                mended = with_source_size(data, sizes[prefix], sizes[self.new])
                if mended != data:
                    _replace(pyc, mended)
                    break


def main(arguments: list[str]) -> int:
    """Fix the environment that this file lies in; 0 when its files hold the prefix."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(
        prog="conda-unpack", description="Give the files of this environment the prefix under which it lies."
    )
    parser.add_argument("--prefix", help="another prefix, for instance the one that a container sees")
    given = parser.parse_args(arguments).prefix
    root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    try:
        new = root if given is None else os.path.normpath(given)
        if not os.path.isabs(new):
            raise ValueError(f"the prefix {given!r} is not an absolute path")
        refused = _IMPOSSIBLE.search(new)
        if refused:  # Also a byte that is no UTF-8, which Python reads as a lone surrogate.
            raise ValueError(f"{new!r} can't be a prefix, as it has {refused[0]!r} in it; nothing was changed")
        print("conda-unpack: " + move(root, new), flush=True)
        if lacking := libraries_lacking(root):
            print(f"conda-unpack: this machine lacks {', '.join(lacking)}; install what brings them", file=sys.stderr)
    except NoRoomError as error:
        print(f"conda-unpack: {error}; choose a shorter prefix, nothing was changed", file=sys.stderr)
        return 1
    except OSError as error:
        reason = error.strerror or str(error)
        print(f"conda-unpack: {error.filename or root}: {reason}; mend that, then run it again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("conda-unpack: interrupted; run it again to finish", file=sys.stderr)
        return 130
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        print(f"conda-unpack: {error}", file=sys.stderr)
        return 1
    return 0


def move(root: str, new: str) -> str:
    """Move the environment at ``root`` to the prefix ``new``; says what was done."""
    records = os.path.join(root, RECORDS)
    if os.path.exists(os.path.join(root, DELTA_NOTE)):
        raise ValueError(f"{root} is no whole environment, see {DELTA_NOTE} in it")
    with open(os.path.join(records, "relocation.json"), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another conda-unpack is at work on {root}") from None
        document = json.loads(file.read())
        if document["version"] != 1 or document["placeholder"] != PLACEHOLDER:
            raise ValueError(f"{file.name} is of another version")
        held = _read(os.path.join(records, "prefix")).rstrip("\n") or PLACEHOLDER
        journal = os.path.join(records, "moving")
        former = [line for line in _read(journal).split("\n") if line]
        if held == new and not former:
            return f"nothing to do, the files hold {new} already"
        candidates = list(dict.fromkeys([held, *former]))
        mover = Mover(root, document["files"], candidates, new)
        mover.check()
        _replace(journal, "".join(prefix + "\n" for prefix in dict.fromkeys([*candidates, new])).encode())
        mover.run()
        _replace(os.path.join(records, "prefix"), (new + "\n").encode())
        os.unlink(journal)
    done = f"{mover.count} files now hold {new}"
    if mover.changed:
        count, example = len(mover.changed), mover.changed[0]
        done += f"; {count} changed since they were packed and are left as they are, such as {example}"
    return done


def libraries_lacking(root: str) -> list[str]:
    """What Python's own modules don't load without, as ``"libssl.so.3 (for _ssl)"``; none if it is another Python."""
    if os.path.realpath(sys.prefix) != root:
        return []
    lacking: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file in sorted(glob.glob(glob.escape(root) + "/lib/python3*/lib-dynload/*.so")):
            module = os.path.basename(file).split(".", 1)[0]
            try:
                importlib.import_module(module)
            except Exception as error:
                if found := re.match(r"(\S+): cannot open shared object file", str(error)):
                    lacking.setdefault(found[1], module)
    return [f"{library} (for {module})" for library, module in lacking.items()]


def _canonical(data: bytes, occurrences: Occurrences, prefix: str, path: str) -> bytes | None:
    """``data`` with the placeholder for ``prefix``; ``None`` if it does not hold ``prefix`` as recorded."""
    try:
        present = occurrences if prefix == PLACEHOLDER else shifted(occurrences, PLACEHOLDER, prefix)
        return rewrite(data, present, prefix, PLACEHOLDER, path, portable=True)[0]
    except (MismatchError, NoRoomError):
        return None


def _source_of(path: str) -> str:
    folder, mark, name = path.rpartition("/__pycache__/")
    return "{}/{}.py".format(folder, name.split(".", 1)[0]) if mark else ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _replace(path: str, content: bytes) -> None:
    """Write a file anew, with the mode and times of the former one, and rename it into place."""
    beside = path + ".conda-unpack"
    try:
        with open(beside, "wb") as file:
            file.write(content)
        if os.path.exists(path):
            former = os.stat(path)
            os.chmod(beside, former.st_mode & 0o777)
            os.utime(beside, ns=(former.st_atime_ns, former.st_mtime_ns))
        os.rename(beside, path)
    except BaseException:
        if os.path.exists(beside):
            os.unlink(beside)
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

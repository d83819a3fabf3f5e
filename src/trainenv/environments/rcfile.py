"""trainenv's block in a shell's start-up file: put in, brought up to date, taken out byte for byte.

The block begins and ends with a marked line. What stands around it is never touched. Two things are
noted in it, so that taking it out leaves the very file that was there before: that the file ended
without a newline, and that there was no file.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainenv.environments.shells import DIALECTS, FOLDER, program
from trainenv.errors import TrainenvError, UsageError

SHELLS = ("bash", "zsh", "fish")

_BEGIN = "# >>> trainenv initialize >>>"
_END = "# <<< trainenv initialize <<<"
_NO_NEWLINE = "# The line before this block had no end."
_NO_FILE = "# This file was made for this block."
_BLOCK = re.compile(rb"^" + _BEGIN.encode() + rb"\n.*?^" + _END.encode() + rb"\n?", re.MULTILINE | re.DOTALL)
_MARK = re.compile(rf"^(?:{re.escape(_BEGIN)}|{re.escape(_END)})$".encode(), re.MULTILINE)


@dataclass(frozen=True)
class Change:
    """A start-up file before and after; None stands for a file that is not there."""

    file: Path
    before: bytes | None
    after: bytes | None

    @property
    def diff(self) -> str:
        """The change as a unified diff; empty if there is none."""
        old, new = (
            (content or b"").decode(errors="backslashreplace").splitlines(keepends=True)
            for content in (self.before, self.after)
        )
        lines = difflib.unified_diff(old, new, str(self.file), str(self.file))
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)

    def write(self) -> None:
        """Bring the file to ``after``. Raises ``TrainenvError`` where it may not be written."""
        if self.before == self.after:
            return
        target = Path(os.path.realpath(self.file))
        if target.exists() and not target.stat().st_mode & stat.S_IWUSR:
            raise TrainenvError(
                f"{target} is read-only",
                cause="whoever made it so manages it by other means",
                hint="Put in by hand what --dry-run shows, or `chmod u+w` it first",
            )
        try:
            if self.after is None:
                target.unlink()
            else:
                _replace(target, self.after)
        except OSError as error:
            raise TrainenvError(
                f"{target} can't be written",
                cause=error.strerror or str(error),
                hint="Put in by hand what --dry-run shows",
            ) from None


def startup_file(shell: str) -> Path:
    """The file that every interactive ``shell`` of the user reads."""
    home = Path("~").expanduser()
    if shell == "zsh":
        return Path(_zdotdir() or home) / ".zshrc"
    if shell == "fish":
        return Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "fish" / "config.fish"
    return home / ".bashrc"


def added(shell: str) -> Change:
    """``shell``'s start-up file with the block in it, at its end or where it stands already."""
    file = startup_file(shell)
    before = _content(file)
    notes = [_NO_FILE] if before is None else [_NO_NEWLINE] if before and not before.endswith(b"\n") else []
    found = _BLOCK.search(before or b"")
    if found:
        notes = [note for note in (_NO_FILE, _NO_NEWLINE) if note.encode() in found[0].splitlines()]
        block = _block(shell, notes)
        if not found[0].endswith(b"\n"):
            block = block.rstrip(b"\n")
        after = (before or b"")[: found.start()] + block + (before or b"")[found.end() :]
    else:
        after = (before or b"") + (b"\n" if _NO_NEWLINE in notes else b"") + _block(shell, notes)
    return Change(file, before, after)


def removed(shell: str) -> Change:
    """``shell``'s start-up file without the block: what it was before, and what others wrote since."""
    file = startup_file(shell)
    before = _content(file)
    if before is None:
        return Change(file, None, None)
    after: bytes | None = before
    while after and (found := _BLOCK.search(after)):
        notes = found[0].splitlines()
        head, tail = after[: found.start()], after[found.end() :]
        if _NO_NEWLINE.encode() in notes and not tail:
            head = head.removesuffix(b"\n")
        after = None if _NO_FILE.encode() in notes and not head + tail else head + tail
    return Change(file, before, after)


def block_of(shell: str) -> str | None:
    """The block as it stands in ``shell``'s start-up file; None if it has none."""
    with suppress(OSError):
        found = _BLOCK.search(startup_file(shell).read_bytes())
        return found[0].decode(errors="replace") if found else None
    return None


def _block(shell: str, notes: list[str]) -> bytes:
    dialect = DIALECTS[shell]
    lines = [_BEGIN, f"# Written by `trainenv init {shell}`; `trainenv init {shell} --reverse` takes it out.", *notes]
    completion = FOLDER / f"completion.{shell}"
    definitions = [
        *dialect.wrapper(program()),
        f"{'source' if shell == 'fish' else '.'} {dialect.quoted(str(completion))}",
    ]
    there, end = (
        (f"if test -r {dialect.quoted(str(completion))}", "end")
        if shell == "fish"
        else (f"if [ -r {dialect.quoted(str(completion))} ]; then", "fi")
    )
    lines += [there, *(f"    {line}" for line in definitions), end, _END]
    return os.fsencode("\n".join(lines) + "\n")


def _content(file: Path) -> bytes | None:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{file} can't be read", cause=error.strerror or str(error)) from None
    if len(_MARK.findall(content)) != 2 * len(_BLOCK.findall(content)):
        raise UsageError(
            f"trainenv's block in {file} is damaged",
            cause="one of its marked lines is missing",
            hint=f"Take out by hand what is left between `{_BEGIN}` and `{_END}`, with these lines",
        )
    return content


def _replace(file: Path, content: bytes) -> None:
    """Replace ``file`` by a rename; where it can't be (a mount, a hard link, a locked folder), in place."""
    file.parent.mkdir(parents=True, exist_ok=True)
    former = file.stat() if file.exists() else None
    beside = file.with_name(f".{file.name}.trainenv-{os.getpid()}")
    if former is None or former.st_nlink == 1:
        try:
            beside.write_bytes(content)
            if former is not None:
                os.chmod(beside, stat.S_IMODE(former.st_mode))
                if (former.st_uid, former.st_gid) != (os.geteuid(), os.getegid()):
                    os.chown(beside, former.st_uid, former.st_gid)
            os.replace(beside, file)
            return
        except OSError:
            with suppress(OSError):
                beside.unlink()
    file.write_bytes(content)


def _zdotdir() -> str | None:
    """zsh's ZDOTDIR, which most set only in ``.zshenv``: asked of zsh itself, where it is there."""
    if os.environ.get("ZDOTDIR"):
        return os.environ["ZDOTDIR"]
    import subprocess

    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["zsh", "-c", 'print -r -- "trainenv:$ZDOTDIR"'],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=True,
        )
        answer = os.fsdecode(done.stdout).rstrip("\n").rpartition("trainenv:")[2]
        return answer if os.path.isabs(answer) else None
    return None

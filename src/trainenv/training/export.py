"""Tasks for elsewhere: as a table, as JSON with all that they measured, or whole in one archive.

The same tasks give the same bytes. An archive unpacks into a folder of tasks, which is all it takes to have them there.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from trainenv.errors import TaskError, UsageError
from trainenv.progress import Reporter
from trainenv.training import metrics, record
from trainenv.training.task import Task

ARCHIVES = (".tar.gz", ".tgz", ".tar.zst", ".tar")
TABLES = ("csv", "json")

_COLUMNS: tuple[str, ...] = (
    "id",
    "name",
    "method",
    "stage",
    "status",
    "exit_code",
    "signal",
    "reason",
    "conda_env",
    "host",
    "user",
)
_COLUMNS += ("created", "started", "finished", "git_commit", "code_sha256", "manifest_sha256")


def write(tasks: Sequence[Task], output: Path, reporter: Reporter, *, outputs: bool = True) -> None:
    """Write ``tasks`` into ``output``, in the form that its name ends in; without ``outputs`` archives lack these.

    It is there whole or not at all. Raises ``UsageError`` for another name, ``TaskError`` if a task still runs, is
    not here, or there is no room.
    """
    name = output.name.lower()
    ending = next((each for each in ARCHIVES if name.endswith(each)), None)
    if ending is None and not name.endswith(tuple(f".{each}" for each in TABLES)):
        known = ", ".join([*(f".{each}" for each in TABLES), *ARCHIVES])
        raise UsageError(f"nothing is known about files like {output.name}", hint=f"Its name may end in {known}")
    beside = output.with_name(f".{output.name}.{os.urandom(4).hex()}")
    try:
        with beside.open("wb") as stream:
            if ending is None:
                stream.write(text(tasks, name.rpartition(".")[2]).encode())
            else:
                _archive(tasks, stream, ending, reporter, outputs=outputs)
        beside.replace(output)
    except OSError as error:
        raise TaskError(f"{output} can't be written", cause=error.strerror or str(error)) from None
    finally:
        with suppress(OSError):
            beside.unlink()


def text(tasks: Sequence[Task], form: str) -> str:
    """``tasks`` as ``csv`` (a line for each) or ``json`` (with the history of their metrics)."""
    return _csv(tasks) if form == "csv" else _json(tasks)


def _json(tasks: Sequence[Task]) -> str:
    found = [{**task.to_json(), "history": metrics.read(str(task.metrics_file))} for task in tasks]
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _csv(tasks: Sequence[Task]) -> str:
    parameters = dict.fromkeys(name for task in tasks for name in task.parameters)
    measured = dict.fromkeys(name for task in tasks for name in task.metrics)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_COLUMNS, *(f"params.{name}" for name in parameters), *(f"metrics.{name}" for name in measured)])
    for task in tasks:
        row = [getattr(task, column) for column in _COLUMNS]
        row += [task.parameters.get(name) for name in parameters]
        writer.writerow([*row, *(task.metrics.get(name) for name in measured)])
    return out.getvalue()


def _archive(tasks: Sequence[Task], stream: IO[bytes], ending: str, reporter: Reporter, *, outputs: bool) -> None:
    for task in tasks:
        task.require_folder()
        if task.active:
            raise TaskError(f"task {task.id} is still {task.status}", hint="Export it when it has ended")

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if not outputs and f"/{record.OUTPUTS}/" in member.name:
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = int(member.mtime)
        return member

    with (
        _compressed(stream, ending) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
        reporter.step("export", total=len(tasks), unit="tasks") as step,
    ):
        for task in sorted(tasks, key=lambda task: task.id):
            _add(tar, task.folder, task.id, wanted)
            step.advance()


def _add(
    tar: tarfile.TarFile, path: Path, name: str, wanted: Callable[[tarfile.TarInfo], tarfile.TarInfo | None]
) -> None:
    """A file or folder with all in it, by name; what is neither is passed over."""
    found = tar.gettarinfo(path, name)
    if found is None or (member := wanted(found)) is None:
        return
    if member.isreg():
        with path.open("rb") as content:
            tar.addfile(member, content)
    elif member.isdir():
        tar.addfile(member)
        for inside in sorted(os.listdir(path)):
            _add(tar, path / inside, f"{name}/{inside}", wanted)
    elif member.issym() or member.islnk():
        tar.addfile(member)


@contextmanager
def _compressed(stream: IO[bytes], ending: str) -> Iterator[Any]:
    if ending in (".tar.gz", ".tgz"):
        import gzip

        with gzip.GzipFile(filename="", fileobj=stream, mode="wb", mtime=0) as file:
            yield file
    elif ending == ".tar.zst":
        import zstandard

        with zstandard.ZstdCompressor(level=6).stream_writer(stream, closefd=False) as file:
            yield file
    else:
        yield stream

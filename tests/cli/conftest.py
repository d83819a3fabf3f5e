"""Environments that are nothing but a folder, for shells; and a terminal to sit at."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from trainenv import Workspace

MakePrefix = Callable[..., Path]


@pytest.fixture
def make_prefix(workspace: Workspace) -> MakePrefix:
    """Makes an environment with one program, ``prog``, variables, and scripts by their paths in ``etc/conda``."""

    def make(name: str, variables: Mapping[str, str] | None = None, scripts: Mapping[str, str] | None = None) -> Path:
        prefix = workspace.settings.envs_dir / name
        (prefix / "conda-meta").mkdir(parents=True)
        (prefix / "bin").mkdir()
        program = prefix / "bin" / "prog"
        program.write_text(f"#!/bin/sh\necho program of {name}\n")
        program.chmod(0o755)
        if variables:
            (prefix / "conda-meta" / "state").write_text(json.dumps({"version": 1, "env_vars": dict(variables)}))
        for path, content in (scripts or {}).items():
            file = prefix / "etc" / "conda" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return prefix

    return make


class Terminal:
    """A program on a terminal of its own, and what it has written there so far."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self.process = process
        self.seen = ""

    def say(self, line: str) -> None:
        """Type ``line`` and Enter."""
        self.type(line + "\r")

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def expect(self, pattern: str, seconds: float = 30) -> str:
        """Wait for ``pattern``; returns its match. What came up to its end counts as read."""
        end = time.monotonic() + seconds
        while True:
            plain = re.sub(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[()].|[=>])", "", self.seen)
            if found := re.search(pattern, plain):
                self.seen = plain[found.end() :]
                return found[0]
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise AssertionError(f"no {pattern!r} in {plain!r}")
            try:
                self.seen += os.read(self._master, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"ended without {pattern!r} in {plain!r}") from None


@contextlib.contextmanager
def terminal(argv: Sequence[str], variables: Mapping[str, str]) -> Iterator[Terminal]:
    """Start ``argv`` on a new terminal of 200 columns; it is killed at the end."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        argv,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**variables, "TERM": "dumb"},
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(master)

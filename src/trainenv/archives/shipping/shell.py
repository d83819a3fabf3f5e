"""Commands on another machine, by way of the user's own ``ssh``: his settings, keys, agent and shared connections.

ssh asks for passwords on the terminal by itself. What the other side's start-up files print comes
before what was asked for, so that begins with a line that nobody prints by chance, and a line break before it.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

from trainenv.archives.shipping.addresses import Address
from trainenv.archives.shipping.transport import Interrupted
from trainenv.errors import ArchiveError

_OPTIONS = ("-T", "-oConnectTimeout=20", "-oServerAliveInterval=15", "-oServerAliveCountMax=4")
_SSH_FAILED = 255
_NOISE = 1 << 20
"""Bytes that start-up files may print before the first line that counts."""

_FINAL = (
    "permission denied",
    "host key verification failed",
    "could not resolve hostname",
    "bad configuration",
    "bad owner or permissions",
    "no such identity",
    "terminating",
    "unknown option",
    "too many authentication failures",
)
"""What ssh says where trying again is of no use."""


class Shell:
    """A running ``script`` of POSIX sh on ``place``, with ``arguments`` as its ``$1``, ``$2`` and so on.

    ``script`` is one line without single quotes, which any login shell passes on unchanged.
    """

    def __init__(self, place: Address, script: str, arguments: tuple[str, ...] = ()) -> None:
        self.place = place
        program = shutil.which("ssh")
        if program is None:
            raise ArchiveError("there is no ssh on this machine", hint="Install OpenSSH's client")
        command = " ".join(["exec sh -c", *map(shlex.quote, (f"echo; {script}", "sh", *arguments))])
        user = ("-l", place.user) if place.user else ()
        port = ("-p", str(place.port)) if place.port else ()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [program, *_OPTIONS, *user, *port, "--", place.host, command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in = self._process.stdin.fileno()
        self._out = self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._ahead = b""

    def write(self, data: bytes | memoryview, seconds: float | None = None) -> None:
        """Send all of ``data``. Raises as ``failed`` says, and ``Interrupted`` where nothing moves for ``seconds``."""
        view = memoryview(data)
        while view:
            self._wait(self._in, select.POLLOUT, seconds)
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                continue
            except OSError:
                raise self.failed() from None

    def end_input(self) -> None:
        """Nothing more will be sent."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def read(self, most: int, seconds: float | None = None) -> bytes:
        """Up to ``most`` bytes, none at the end."""
        if self._ahead:
            block, self._ahead = self._ahead[:most], self._ahead[most:]
            return block
        self._wait(self._out, select.POLLIN, seconds)
        return os.read(self._out, most)

    def line(self, begin: str = "", seconds: float | None = None) -> str:
        """The rest of the next line that begins with ``begin``; those before it are passed over."""
        passed = 0
        for line in self._lines(seconds):
            if line.startswith(begin.encode()):
                return line.decode("utf-8", "replace")[len(begin) :].strip("\r\n")
            passed += len(line)
            if passed > _NOISE:
                break
        raise self.failed()

    def finish(self, seconds: float | None = None) -> int:
        """Its exit status, once what is left of its output has been read and dropped."""
        while self.read(1 << 16, seconds):
            pass
        return self._process.wait()

    def end(self) -> None:
        """End it, wherever it is; a thread that reads from it comes to the end."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def close(self) -> None:
        """``end``, when no thread uses it any more."""
        self.end()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                stream.close()

    @property
    def ended_by_itself(self) -> bool:
        """Whether what ran there came to an end, and ssh told its status."""
        return self._process.poll() not in (None, _SSH_FAILED) and self._process.returncode >= 0

    @property
    def said(self) -> str:
        """The last line of standard error, of ssh or of the script."""
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def failed(self) -> Interrupted | ArchiveError:
        """What to raise when it ended too early: whether to try again is seen from what ssh said."""
        try:
            status = self._process.wait(2)
        except subprocess.TimeoutExpired:
            return Interrupted("it does not answer as it should")
        said = self.said
        if status == _SSH_FAILED and not any(words in said.lower() for words in _FINAL):
            return Interrupted(said or "the connection broke off")
        if status < 0:
            return Interrupted("ssh was ended")
        if status == _SSH_FAILED:
            hint = f"See whether `ssh {self.place.host}` works"
            return ArchiveError(f"{self.place.name} can't be reached", cause=said, hint=hint)
        return ArchiveError(f"{self.place.name} can't be used", cause=said or f"its shell ended with status {status}")

    def _lines(self, seconds: float | None) -> Iterator[bytes]:
        held = b""
        while True:
            line, end, rest = held.partition(b"\n")
            if end:
                self._ahead, held = rest + self._ahead, b""
                yield line + end
                continue
            block = self.read(1 << 16, seconds)
            if not block:
                return
            held += block

    def _wait(self, descriptor: int, event: int, seconds: float | None) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll(None if seconds is None else seconds * 1000):
            raise Interrupted(f"nothing came for {seconds:g} s")

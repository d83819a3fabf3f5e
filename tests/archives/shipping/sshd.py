"""A real OpenSSH server on loopback: its own keys and port, and a far side with its own home folder and PATH."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

SSHD = "/usr/sbin/sshd"


@dataclasses.dataclass
class Far:
    """The far side. ``host`` is what the near side's ssh settings call it, ``home`` its user's home folder.

    ``path`` is the PATH of its commands; ``lead`` goes before each command, and may do what a start-up file does.
    """

    host: str
    port: int
    home: Path
    _folder: Path
    _server: subprocess.Popen[bytes]

    def set(self, path: str, lead: str = "", runner: str = "") -> None:
        """From now on commands there run with ``path``, after ``lead``, by way of ``runner``."""
        command = f"export HOME={self.home} PATH={path}\ncd {self.home}\n{lead}\n"
        command += f'exec {runner} /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n'
        (self._folder / "command").write_text(f"#!/bin/sh\n{command}")

    def sessions(self) -> list[int]:
        """The processes of the server that each have a connection."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == self._server.pid:
                    found.append(int(entry.name))
        return found

    def cut(self, seconds: float = 20.0) -> None:
        """Cut every connection, once there is one."""
        until = time.monotonic() + seconds
        while not (sessions := self.sessions()):
            assert time.monotonic() < until
            time.sleep(0.01)
        for session in sessions:
            with contextlib.suppress(ProcessLookupError):
                os.kill(session, signal.SIGKILL)

    def vanish_in_use(self) -> None:
        """``vanish`` once there is a connection."""
        until = time.monotonic() + 20
        while not self.sessions():
            assert time.monotonic() < until
        self.vanish()

    def vanish(self) -> None:
        """End the server and every connection."""
        sessions = self.sessions()
        self._server.kill()
        self._server.wait()
        for session in sessions:
            with contextlib.suppress(ProcessLookupError):
                os.kill(session, signal.SIGKILL)


@contextlib.contextmanager
def far_side(folder: Path) -> Iterator[Far]:
    """A server whose files lie in ``folder``; ``folder/bin/ssh`` is ssh with the settings to reach it as ``far``."""
    home, binaries = folder / "home", folder / "bin"
    home.mkdir(parents=True)
    binaries.mkdir()
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    public = (folder / "user_key.pub").read_text()
    (folder / "authorized_keys").write_text(public)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPasswordAuthentication no\nPermitRootLogin yes\n"
        f"MaxStartups 100\nForceCommand sh {folder}/command\n"
    )
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host_key.pub').read_text()}")
    (folder / "ssh_config").write_text(
        f"Host far\n  HostName 127.0.0.1\n  Port {port}\nHost *\n  IdentityFile {folder}/user_key\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile none\n"
        "  BatchMode yes\n"
    )
    (binaries / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {folder}/ssh_config "$@"\n')
    (binaries / "ssh").chmod(0o755)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    far = Far("far", port, home, folder, server)
    far.set("/usr/bin:/bin")
    try:
        until = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.02)
        yield far
    finally:
        far.vanish()

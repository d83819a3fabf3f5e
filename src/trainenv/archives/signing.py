"""Signatures of archives with the user's own SSH keys, in OpenSSH's standard form.

``FILE.sig`` lies beside ``FILE`` and covers every byte of it, so it can be checked by hand as well::

    ssh-keygen -Y verify -n trainenv -f allowed_signers -I alice@example.org -s FILE.sig < FILE

Who may sign is said by a file in the form of ``allowed_signers`` (see ``ssh-keygen(1)``), as git has it.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from trainenv.archives import programs
from trainenv.archives.sources import at_once, unreadable
from trainenv.errors import ArchiveError, UsageError

NAMESPACE = "trainenv"
"""What the signature is for: one that was made for another purpose, such as a commit, does not count."""

_DEFAULT_KEYS = ("id_ed25519", "id_ed25519_sk", "id_ecdsa", "id_ecdsa_sk", "id_rsa")
_GOOD = re.compile(r"Good \"[^\"]*\" signature (?:for .* )?with (?P<key>\S+ key \S+)")
_SETTLED_SECONDS = 0.05
"""Clocks of file systems tick this often at least: two changes within a tick can't be told apart."""


@dataclass(frozen=True)
class Signature:
    """The signature beside an archive.

    ``signer`` is who the allowed signers say it is, None where nobody there has this key. ``key`` is its type and
    fingerprint. ``checked`` says whether it was held against the bytes of the archive.
    """

    file: str
    signer: str | None
    key: str | None
    checked: bool

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def signature_file(archive: Path) -> Path:
    """Where the signature of ``archive`` lies."""
    return archive.with_name(f"{archive.name}.sig")


def signing_key(key: Path | None) -> Path:
    """The key to sign with: ``key``, else the first of the user's own. Raises ``UsageError`` without one.

    A public key does where the private one is in the user's agent.
    """
    _ssh_keygen()
    if key is not None:
        if not key.is_file():
            raise UsageError(f"there is no SSH key {key}", hint="Name a private key, or a public one of your agent")
        return key
    folder = Path("~/.ssh").expanduser()
    for name in _DEFAULT_KEYS:
        if (folder / name).is_file():
            return folder / name
    raise UsageError(
        f"there is no SSH key in {folder}", hint="Name one with --sign KEY, or make one: ssh-keygen -t ed25519"
    )


def sign(archive: Path, key: Path | None = None) -> Path:
    """Sign ``archive`` with ``signing_key(key)``; returns the new signature file, which appears whole or not at all.

    ``ssh-keygen`` asks on the terminal for what it needs, a passphrase or a touch.
    """
    key = signing_key(key)
    target = signature_file(archive)
    with _opened(archive) as descriptor:
        done = _run(["-Y", "sign", "-n", NAMESPACE, "-f", os.fspath(key.absolute())], descriptor)
    if done.returncode != 0 or not done.stdout:
        raise ArchiveError(
            f"{archive} is not signed",
            cause=_said(done),
            hint="The archive itself is whole; name another key, or load this one: ssh-add",
        )
    beside = target.with_name(f".{target.name}.new")
    try:
        beside.write_bytes(done.stdout)
        os.replace(beside, target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ArchiveError(f"{target} can't be written", cause=error.strerror or str(error)) from None
    return target


@contextmanager
def required(archive: Path, allowed_signers: Path | None) -> Iterator[tuple[Signature, Callable[[], None]]]:
    """Raise ``ArchiveError`` unless one of ``allowed_signers`` signed ``archive`` just as it is.

    Gives the signature, and a function to call once all has been read and before any of it is used: it raises if
    the file was changed or exchanged since it was checked.
    """
    signers = _signers_file(allowed_signers)
    with _opened(archive) as descriptor:
        before = _settled(descriptor)
        found = _checked(archive, descriptor, signers)

        def unchanged() -> None:
            if _identity(os.fstat(descriptor)) != before or _identity(_status(archive)) != before:
                raise ArchiveError(
                    f"{archive} was changed while it was unpacked",
                    cause="what was read is not what its signature was checked for",
                    hint="Nothing was unpacked; try again when nobody writes to it",
                )

        unchanged()
        yield found, unchanged


def signature_of(archive: Path, allowed_signers: Path | None, *, verify: bool = False) -> Signature | None:
    """The signature beside ``archive``, None without one.

    With ``verify`` it is held against the bytes: ``ArchiveError`` where it is not theirs. An unknown signer is
    no error.
    """
    file = signature_file(archive)
    if not file.is_file():
        return None
    principals = [] if allowed_signers is None else _principals(file, _signers_file(allowed_signers))
    signer = principals[0] if principals else None
    if not verify:
        return Signature(str(file), signer, None, checked=False)
    with _opened(archive) as descriptor:
        if principals:
            assert allowed_signers is not None
            return _checked(archive, descriptor, allowed_signers)
        return Signature(str(file), None, _key(archive, descriptor), checked=True)


def _checked(archive: Path, descriptor: int, signers: Path) -> Signature:
    file = signature_file(archive)
    if not file.is_file():
        raise ArchiveError(
            f"{archive} is not signed",
            cause=f"there is no {file.name} beside it",
            hint="Copy that as well, or let who made the archive use `trainenv pack --sign`",
        )
    said = ""
    for principal in _principals(file, signers):
        arguments = ["-n", NAMESPACE, "-f", os.fspath(signers), "-I", principal, "-s", os.fspath(file.absolute())]
        done = _run(["-Y", "verify", *arguments], descriptor)
        if done.returncode == 0:
            match = _GOOD.search(done.stdout.decode(errors="replace"))
            return Signature(str(file), principal, match["key"] if match else None, checked=True)
        said = _said(done)
    key = _key(archive, descriptor)
    raise ArchiveError(
        f"{archive} is not signed by anybody who may",
        cause=said or f"{key} is not among the allowed signers",
        hint=f"Allowed are those in {signers}; nothing was unpacked",
    )


def _principals(file: Path, signers: Path) -> list[str]:
    """Who has the key of the signature ``file``; nobody where it is unknown."""
    done = _run(["-Y", "find-principals", "-s", os.fspath(file.absolute()), "-f", os.fspath(signers)], None)
    return done.stdout.decode(errors="replace").splitlines() if done.returncode == 0 else []


def _key(archive: Path, descriptor: int) -> str:
    """The key that signed these bytes. Raises ``ArchiveError`` if the signature is not theirs."""
    file = signature_file(archive)
    done = _run(["-Y", "check-novalidate", "-n", NAMESPACE, "-s", os.fspath(file.absolute())], descriptor)
    match = _GOOD.search(done.stdout.decode(errors="replace"))
    if done.returncode != 0 or match is None:
        raise ArchiveError(
            f"{archive} is not what was signed",
            cause=_said(done),
            hint=f"Copy it and {file.name} again; nothing was unpacked",
        )
    return match["key"]


def _signers_file(allowed_signers: Path | None) -> Path:
    if allowed_signers is None:
        raise UsageError(
            "nobody is known who may sign archives",
            hint="Name a file of allowed signers: --allowed-signers FILE, or allowed_signers in trainenv.toml",
        )
    if not allowed_signers.is_file():
        raise UsageError(f"there is no file of allowed signers {allowed_signers}", hint="See docs/archives.md")
    return allowed_signers.absolute()


def _run(arguments: Sequence[str], descriptor: int | None) -> subprocess.CompletedProcess[bytes]:
    """``ssh-keygen``, which reads the open file from its beginning. Its questions go to the terminal."""
    if descriptor is not None:
        os.lseek(descriptor, 0, os.SEEK_SET)
    return subprocess.run(
        [_ssh_keygen(), *arguments],
        stdin=subprocess.DEVNULL if descriptor is None else descriptor,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )


def _ssh_keygen() -> str:
    return programs.required("ssh-keygen", "signatures", "openssh-client or openssh")


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = [line.strip() for line in (done.stderr + done.stdout).decode(errors="replace").splitlines()]
    return next((line for line in lines if line and not line.startswith("Signing ")), f"exit code {done.returncode}")


@contextmanager
def _opened(archive: Path) -> Iterator[int]:
    try:
        descriptor = at_once(os.fspath(archive), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(archive, error) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ArchiveError(f"{archive} can't have a signature", cause="it is not a file")
        yield descriptor
    finally:
        os.close(descriptor)


def _settled(descriptor: int) -> tuple[int, ...]:
    """The identity of the file, at a time from which on each change shows."""
    status = os.fstat(descriptor)
    age = time.time() - status.st_ctime
    if 0 <= age < _SETTLED_SECONDS:
        time.sleep(_SETTLED_SECONDS - age)
    return _identity(os.fstat(descriptor))


def _status(archive: Path) -> os.stat_result:
    try:
        return os.stat(archive)
    except OSError as error:
        raise unreadable(archive, error) from None


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

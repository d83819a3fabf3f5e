"""``push`` to a machine without trainenv: its shell, tar and sha256sum, and the archive's own ``conda-unpack``.

All happens in a folder ``.NAME.push-TOKEN`` beside the place of the environment, which one rename brings there in
the end. The folder belongs to one sender, whose newest connection is the one that counts. What has been sent of an
archive stays in it for the next connection; anything that fails there removes the folder.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from trainenv.archives.hashing import sha256_of
from trainenv.archives.hosts import Host, host_checks
from trainenv.archives.manifest import Archive
from trainenv.archives.shipping.addresses import Address
from trainenv.archives.shipping.shell import Shell
from trainenv.archives.shipping.transport import ANOTHER_FOLDER, Interrupted
from trainenv.environments.staging import check_prefix
from trainenv.errors import ArchiveError, EnvironmentExistsError, UsageError
from trainenv.progress import Reporter

_BLOCK = 1 << 18
_FACT = "trainenv-fact "
_SAYS = "trainenv-push "

_FACTS = (
    "d=$1; n=$2; "
    "case $d in /*) ;; ?*) d=$HOME/$d ;; *) d=$HOME/.local/share/trainenv/envs ;; esac; "
    'say() { echo "trainenv-fact $*"; }; '
    'say folder "$d"; say machine "$(uname -m)"; say glibc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"; '
    "for t in tar zstd gzip sha256sum; do if command -v $t >/dev/null 2>&1; then say has $t; fi; done; "
    'e=$d; f=; while [ ! -d "${e:-/}" ]; do if [ -e "$e" ]; then f=$e; fi; e=${e%/*}; done; e=${e:-/}; '
    'if [ -w "$e" ] && [ -z "$f" ]; then say writable; fi; '
    'if [ -f "$d/trainenv.toml" ]; then say workspace; fi; '
    'if [ -n "$(ls -A "$d/$n" 2>/dev/null)" ]; then say taken; fi; '
    'set -- $(df -Pk "$e" 2>/dev/null | tail -n 1); say free "$4"; say end'
)

UPLOAD = (
    'p=$1; mkdir -p "$p" || exit 1; '
    'if read -r q 2>/dev/null <"$p/pid" && grep -qsF -e "$p" "/proc/$q/cmdline"; then kill -KILL "-$q"; fi; '
    'echo $$ >"$p/pid"; '
    'touch "$p/part"; echo "trainenv-push $(wc -c <"$p/part")"; '
    'if cat >>"$p/part"; then echo "trainenv-push $(wc -c <"$p/part")"; else rm -rf "$p"; exit 1; fi'
)
"""Says how much is there, takes the rest, says how much is there. A full disk removes all of it."""

_FINISH = (
    "p=$1; target=$2; x=$3; digest=$4; count=$5; prefix=$6; "
    'say() { echo "trainenv-push $*"; }; '
    'fail() { cd /; rm -rf "$p"; say "failed $*"; exit; }; '
    'cd "$p" || exit 1; cat >list || fail "the list of files can not be written"; '
    "say step compare; set -- $(sha256sum <part); "
    'if [ "$1" != "$digest" ]; then rm -f part; say spoiled; exit; fi; '
    "say step unpack; rm -rf new; mkdir new; "
    '$x <part | tar -xof - -C new || fail "tar can not unpack it"; '
    'say step check; cd new; found=$(sha256sum -c ../list 2>/dev/null | grep -c ": OK$"); '
    'if [ "$found" != "$count" ]; then fail "only $found of $count files hold their sha256"; fi; '
    'say step relocate; said=$(./bin/conda-unpack --prefix "$prefix" 2>&1) || fail "$said"; cd ..; '
    "if [ -x new/bin/python ]; then "
    'said=$(new/bin/python -c "import sys" 2>&1) || fail "bin/python does not start: $said"; fi; '
    'if [ -d "$target" ]; then rmdir "$target" 2>/dev/null; fi; '
    'if [ -e "$target" ] || ! mv new "$target"; then fail "$target is taken"; fi; '
    'cd /; rm -rf "$p"; say done'
)


@dataclass
class Facts:
    """What the machine there says of itself; ``folder`` is where the environment will lie."""

    folder: str = ""
    machine: str = ""
    glibc: str = ""
    free_bytes: int | None = None
    tools: set[str] = field(default_factory=set)
    marks: set[str] = field(default_factory=set)


class BarePush:
    """One environment on its way to ``place``, on one connection after the other. ``sent`` counts bytes that went."""

    def __init__(
        self,
        place: Address,
        name: str,
        prefix: str | None,
        token: str,
        pack: Callable[[str], Archive],
        reporter: Reporter,
    ) -> None:
        self._place = place
        self._name = name
        self._prefix = prefix
        self._token = token
        self._pack = pack
        self._reporter = reporter
        self.sent = 0

    def run(self) -> tuple[str, int]:
        """The folder of the environment there and the number of its files, when it is there and has proven itself.

        Raises ``ArchiveError`` and ``Interrupted``.
        """
        facts = self._facts()
        self._require(facts)
        zstd = "zstd" in facts.tools
        archive = self._pack("tar.zst" if zstd else "tar.gz")
        self._require_host(archive, facts)
        target = f"{facts.folder}/{self._name}"
        digest = sha256_of(archive.path)
        aside = f"{facts.folder}/.{self._name}.push-{self._token}-{digest[:16]}"
        self._upload(archive.path, aside)
        unpacker = "zstd -dcq" if zstd else "gzip -dc"
        files = self._finish(archive, aside, target, unpacker, digest)
        return target, files

    def _facts(self) -> Facts:
        facts = Facts()
        shell = Shell(self._place, _FACTS, (self._place.path, self._name))
        try:
            while (line := shell.line(_FACT)) != "end":
                word, _, value = line.partition(" ")
                if word == "has":
                    facts.tools.add(value)
                elif word == "free":
                    facts.free_bytes = int(value) * 1024 if value.isdecimal() else None
                elif word in ("folder", "machine", "glibc"):
                    setattr(facts, word, value)
                else:
                    facts.marks.add(word)
        finally:
            shell.close()
        if not facts.folder.startswith("/"):
            raise ArchiveError(
                f"{self._place.name} can't be used", cause="there is no home folder", hint=ANOTHER_FOLDER
            )
        return facts

    def _require(self, facts: Facts) -> None:
        where = self._place.host
        if "taken" in facts.marks:
            raise EnvironmentExistsError(
                f"{where}: {facts.folder}/{self._name} exists already",
                hint="Remove it there, or choose another name with --as",
            )
        if "workspace" in facts.marks:
            raise ArchiveError(
                f"{where}: {facts.folder} is a workspace of trainenv, which is not there itself",
                hint="Name trainenv's program there with --trainenv, or another folder",
            )
        try:
            check_prefix(self._prefix or f"{facts.folder}/{self._name}", ANOTHER_FOLDER)
        except UsageError as error:
            raise UsageError(f"{where}: {error.message}", cause=error.cause, hint=error.hint) from None
        if "writable" not in facts.marks:
            raise ArchiveError(f"{where}: {facts.folder} can't be written", hint=ANOTHER_FOLDER)
        if missing := {"tar", "sha256sum"} - facts.tools or ({"gzip"} if not {"zstd", "gzip"} & facts.tools else set()):
            raise ArchiveError(
                f"{where} has no trainenv and no {' and '.join(sorted(missing))}", hint="Install one of them there"
            )

    def _require_host(self, archive: Archive, facts: Facts) -> None:
        """What can be known of a machine by its shell, and would keep the environment from running there."""
        host = Host(
            self._place.host, facts.machine, glibc=facts.glibc.rpartition(" ")[2] or None, free_bytes=facts.free_bytes
        )
        new = archive.manifest.files.bytes + archive.bytes
        known = {"processor", "disk space of", *(["glibc"] if host.glibc else [])}
        for check in host_checks(archive.manifest, host, new_bytes=new):
            if check.state == "error" and check.name in known:
                raise ArchiveError(
                    f"{archive.name} can't be used on {host.name}",
                    cause=str(check).replace("this machine", host.name),
                    hint="Nothing was sent",
                )

    def _upload(self, archive: Path, aside: str) -> None:
        size = archive.stat().st_size
        shell = Shell(self._place, UPLOAD, (aside,))
        try:
            with self._reporter.step(f"send {self._name}", total=size, unit="B") as step:
                here = int(shell.line(_SAYS))
                step.advance(min(here, size))
                with archive.open("rb") as file:
                    file.seek(here)
                    while block := file.read(_BLOCK):
                        shell.write(block)
                        self.sent += len(block)
                        step.advance(len(block))
                shell.end_input()
                if int(shell.line(_SAYS)) < size:
                    raise Interrupted("not all of it arrived")
        finally:
            shell.close()

    def _finish(self, archive: Archive, aside: str, target: str, unpacker: str, digest: str) -> int:
        checked = [file for file in archive.manifest.files.of_kind("file") if not {"\n", "\\"} & set(file.path)]
        listing = "".join(f"{file.sha256}  ./{file.path}\n" for file in checked)
        arguments = (aside, target, unpacker, digest, str(len(checked)), self._prefix or target)
        shell = Shell(self._place, _FINISH, arguments)
        try:
            shell.write(listing.encode())
            shell.end_input()
            line = shell.line(_SAYS)
            while line.startswith("step "):
                with self._reporter.step(f"{line.removeprefix('step ')} there"):
                    line = shell.line(_SAYS)
        finally:
            shell.close()
        if line == "spoiled":
            raise Interrupted("what arrived is not what was sent")
        if line != "done":
            raise ArchiveError(
                f"{self._name} can't be unpacked on {self._place.host}",
                cause=line.removeprefix("failed "),
                hint="Nothing of it was left there",
            )
        return len(checked)


def activation_command(target: str) -> str:
    """What to type on the other machine to use the environment."""
    return f"source {shlex.quote(f'{target}/bin/activate')}"

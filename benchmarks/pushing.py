"""How long the next state of an environment takes to a machine behind ssh that has the one before."""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from pathlib import Path

from benchmarks.bench import Bench, conda_pack, cores, settle, trainenv
from benchmarks.measuring import BenchmarkError, Case, Comparison, Contender
from benchmarks.shipping import ROUNDS, UNPACKED, check_unpacked, ways_to_ship
from benchmarks.siblings import CHANGED, SIBLING, before_unpacking_known, changed, with_sibling

_HOST = "machine-b"
_BY_HAND = (
    'conda_pack=$1 prefix=$2 archive=$3 target=$4 ssh=$5 threads=$6; rm -f "$archive"; '
    '"$conda_pack" -q -p "$prefix" -o "$archive" --n-threads "$threads" && '
    '"$ssh" {host} "cat > $target.tar.gz" <"$archive" && '
    '"$ssh" {host} "mkdir $target && tar -xzf $target.tar.gz -C $target && rm $target.tar.gz && '
    '$target/bin/python $target/bin/conda-unpack"'
)


def push_case(bench: Bench) -> Case:
    """``trainenv push`` of a changed environment, beside rsync of its prefix and a whole archive by hand."""
    _, missing = with_sibling(bench)
    after = changed(bench)
    target = bench.machine_b / "envs" / UNPACKED
    programs = _ssh_to_machine_b(bench)
    if programs is None:
        raise BenchmarkError("there is no sshd, which this case needs; Debian has it in openssh-server")
    path = f"PATH={programs}:{bench.variables['PATH']}"
    contenders = [
        Contender(
            "trainenv push",
            ("env", path, trainenv(), "push", "-n", CHANGED, f"ssh://{_HOST}", "--as", UNPACKED),
            prepare=partial(before_unpacking_known, bench, ways_to_ship(bench)[0][0]),
            check=partial(check_unpacked, bench, target),
        )
    ]
    if rsync := shutil.which("rsync"):
        copy = bench.folder / "places" / "rsync"
        contenders.append(
            Contender(
                "rsync -a over what was there",
                (rsync, "-a", "--delete", "-e", str(programs / "ssh"), f"{after}/", f"{_HOST}:{copy}/"),
                prepare=partial(_before_rsync, bench, copy),
            )
        )
    else:
        missing.append("rsync")
    if packer := conda_pack():
        place = bench.folder / "places" / "by-hand"
        arguments = (packer, after, bench.folder / "by-hand.tar.gz", place, programs / "ssh", cores())
        contenders.append(
            Contender(
                "conda-pack, ssh, tar -xzf, conda-unpack",
                ("bash", "-c", _BY_HAND.format(host=_HOST), "bash", *map(str, arguments)),
                prepare=partial(_before_by_hand, bench, place),
                check=partial(check_unpacked, bench, place),
            )
        )
    note = (
        "numpy has another version; machine B, behind a real sshd on this machine, has the environment as it was "
        "before and knows its files. rsync only copies, nothing is checked or relocated, and it changes what is there "
        "in place. CPU times are without what runs behind sshd."
    )
    return Case("push", "Push it again after one package changed", contenders, ROUNDS, Comparison.RATIO, missing, note)


def _ssh_to_machine_b(bench: Bench) -> Path | None:
    """A folder with an ``ssh`` that knows machine B, whose sshd is started for each connection; None without any."""
    server = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
    if server is None:
        return None
    folder = bench.folder / "ssh"
    if folder.exists():
        return folder
    folder.mkdir()
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    (folder / "known_hosts").write_text(f"{_HOST} {(folder / 'host.pub').read_text()}")
    (folder / "command").write_text(
        f"export HOME={bench.folder}/home_b TRAINENV_HOME={bench.machine_b}\n"
        f"export PATH={Path(trainenv()).parent}:{bench.variables['PATH']}\n"
        'exec sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    (folder / "sshd_config").write_text(
        f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n"
        f"PermitRootLogin yes\nForceCommand sh {folder}/command\n"
    )
    (folder / "ssh_config").write_text(
        f"Host {_HOST}\n  ProxyCommand {server} -i -f {folder}/sshd_config\n  IdentityFile {folder}/user\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n  BatchMode yes\n"
    )
    (folder / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    (folder / "ssh").chmod(0o755)
    return folder


def _before_rsync(bench: Bench, copy: Path) -> None:
    """Machine B's environment as it was before; rsync writes beside a file and then renames."""
    before_unpacking_known(bench, ways_to_ship(bench)[0][0])
    subprocess.run(["cp", "-al", bench.machine_b / "envs" / SIBLING, copy], check=True)
    settle()


def _before_by_hand(bench: Bench, place: Path) -> None:
    before_unpacking_known(bench, ways_to_ship(bench)[0][0])
    place.parent.mkdir(exist_ok=True)

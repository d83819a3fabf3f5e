"""One ``.sh`` that unpacks itself, on machines with little, with damage, with kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.archives.conftest import pack, snapshot, unpack
from tests.conftest import RunCommand
from trainenv import archives
from trainenv.archives import formats, self_extracting

NEEDED = (
    *("sh", "tail", "wc", "tr", "uname", "getconf", "mkdir", "df", "ls", "chmod", "rm", "mv", "rmdir", "sed"),
    *("sha256sum", "readlink", "dirname", "cat"),
)
SHELLS = {name: [name] for name in ("sh", "bash", "mksh", "ksh", "zsh")} | {"busybox": ["busybox", "sh"]}


@pytest.fixture(scope="module")
def script(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real environment as a self-extracting archive, not to be changed."""
    return pack(environment, tmp_path_factory.mktemp("script") / "chat.sh", level=1).path


@pytest.fixture(scope="module")
def small_script(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small prefix as a self-extracting archive, not to be changed."""
    return pack(small, tmp_path_factory.mktemp("script") / "chat.sh", level=1).path


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder for ``PATH`` with little more than a shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in NEEDED:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    return folder


def run(command: Sequence[str | Path], folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False, **options)  # type: ignore[call-overload, no-any-return]


def with_script(archive: Path, output: Path, old: str, new: str) -> Path:
    """A copy in whose script ``new`` stands for ``old``."""
    data = archive.read_bytes()
    script = data[: self_extracting.SIZE].decode()
    assert script.count(old) == 1
    output.write_bytes(
        script.replace(old, new).rstrip("\n").encode().ljust(self_extracting.SIZE, b"\n") + data[self_extracting.SIZE :]
    )
    output.chmod(0o755)
    return output


def test_it_becomes_an_environment_that_works(script: Path, tmp_path: Path) -> None:
    done = run([script], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    place = tmp_path / "chat"
    assert f"Use it: . {place}/bin/activate" in done.stdout
    assert subprocess.check_output([place / "bin/greet"], text=True) == f"hello from {place}\n"
    assert subprocess.check_output([place / "bin/teller"], text=True) == f"{place}/share\n"
    activated = f". {place}/bin/activate && command -v greet"
    assert subprocess.check_output(["sh", "-c", activated], text=True) == f"{place}/bin/greet\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chat"]
    again = run([script], tmp_path)
    assert (again.returncode, "not empty" in again.stderr) == (1, True)


@pytest.mark.parametrize("shell", SHELLS)
def test_any_shell_runs_it(shell: str, small_script: Path, tmp_path: Path) -> None:
    there = tmp_path / "there's \\t 😀"
    there.mkdir()
    done = run([*SHELLS[shell], small_script, "--prefix=/opt/my chat", "there's \\t 😀/"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (there / "etc/tool.conf").read_text().startswith("root=/opt/my chat\n")
    archive = archives.read_manifest(small_script)
    found = snapshot(there)
    assert set(found) == {*(file.path for file in archive.files), "conda-meta/trainenv/prefix"}


def test_trainenv_takes_it_as_any_other(small: Path, small_script: Path, trainenv: RunCommand, tmp_path: Path) -> None:
    archives.verify_archive(small_script)
    plain = pack(small, tmp_path / "chat.tar.gz", level=1).path
    assert small_script.read_bytes()[self_extracting.SIZE :] == plain.read_bytes()
    unpack(small_script, tmp_path / "one", "/opt/chat")
    unpack(plain, tmp_path / "other", "/opt/chat")
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "other")
    shown = json.loads(trainenv(None, "inspect", str(small_script), "--json").stdout)
    assert (shown["name"], shown["bytes"]) == ("chat", small_script.stat().st_size)


def test_the_same_environment_gives_the_same_script(small: Path, small_script: Path, tmp_path: Path) -> None:
    again = pack(small, tmp_path / "chat.sh", level=1, threads=1).path
    assert again.read_bytes() == small_script.read_bytes()


def test_help_and_check_write_nothing(small_script: Path, tmp_path: Path) -> None:
    shown = run(["sh", small_script, "--help"], tmp_path)
    assert "Unpacks the environment chat" in shown.stdout
    whole = run([small_script, "--check"], tmp_path)
    assert (whole.returncode, "it is whole" in whole.stdout) == (0, True)
    for wrong in (["--frob"], ["a", "b"], ["--prefix"], ["--prefix", "relative"]):
        assert run([small_script, *wrong], tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [300, 40_000, -1])
def test_a_damaged_one_is_refused(place: int, small_script: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "chat.sh"
    data = bytearray(small_script.read_bytes())
    if place == 300:
        del data[self_extracting.SIZE + 300 :]
    else:
        data[place] ^= 1
    damaged.write_bytes(data)
    for arguments in ([], ["--check"]):
        done = run(["sh", damaged, *arguments], tmp_path)
        assert done.returncode == 1
        assert "it is damaged" in done.stderr
    assert list(tmp_path.iterdir()) == [damaged]


FALLBACKS = {"tar and gzip": ["tar", "gzip"], "bsdtar": ["bsdtar"], "python3": ["python3"]}


@pytest.mark.parametrize("way", FALLBACKS)
def test_a_machine_with_little_can_unpack_it(way: str, machine: Path, small_script: Path, tmp_path: Path) -> None:
    for name in FALLBACKS[way]:
        (machine / name).symlink_to("/usr/bin/python3" if name == "python3" else shutil.which(name) or "")
    done = run([small_script], tmp_path, env={"PATH": str(machine)})
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "chat/etc/tool.conf").read_text().startswith(f"root={tmp_path}/chat\n")


@pytest.mark.parametrize("way", ["zstd", "bsdtar", "nothing"])
def test_with_zstd_inside_it_needs_that(way: str, machine: Path, small: Path, tmp_path: Path) -> None:
    script = pack(small, tmp_path / "small.sh", format="tar.zst").path
    (machine / "python3").symlink_to("/usr/bin/python3")
    for name in {"zstd": ["zstd", "tar"], "bsdtar": ["bsdtar"], "nothing": ["tar"]}[way]:
        (machine / name).symlink_to(shutil.which(name) or "")
    done = run([script], tmp_path, env={"PATH": str(machine)})
    if way == "nothing":
        assert "neither zstd nor a Python that reads zstd" in done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "small.sh"]
    else:
        assert (done.returncode, done.stderr) == (0, "")


def test_what_the_machine_lacks_is_said_before_anything_is_written(
    machine: Path, small_script: Path, script: Path, tmp_path: Path
) -> None:
    bare = run([small_script], tmp_path, env={"PATH": str(machine)})
    assert "install tar and gzip" in bare.stderr
    name = os.uname().machine
    foreign = with_script(script, tmp_path / "foreign.sh", f"machine={name}", "machine=s390x")
    assert f"is for Linux/s390x, and this is Linux/{name}" in run([foreign], tmp_path).stderr
    glibc = archives.read_manifest(script).host_needs.glibc
    newer = with_script(script, tmp_path / "newer.sh", f"glibc={glibc}\n", "glibc=2.999\n")
    assert "needs glibc 2.999" in run([newer], tmp_path).stderr
    musl = with_script(script, tmp_path / "musl.sh", '-e "$loader"', '-e "$loader.gone"')
    assert f"needs glibc {glibc}, and this machine has another C library" in run([musl], tmp_path).stderr
    huge = with_script(small_script, tmp_path / "huge.sh", "\nkilobytes=", "\nkilobytes=99999999")
    assert "MB left" in run([huge], tmp_path).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "foreign.sh", "huge.sh", "musl.sh", "newer.sh"]


def test_a_prefix_without_room_leaves_nothing(script: Path, tmp_path: Path) -> None:
    done = run([script, "--prefix", "/" + "x" * 300], tmp_path)
    assert done.returncode == 1
    assert "bin/teller has room for" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a:b", "two\nlines", "\\t:"])
def test_where_no_environment_can_be_nothing_is_unpacked(name: str, small_script: Path, tmp_path: Path) -> None:
    done = run(["sh", small_script, name], tmp_path)
    assert done.returncode == 1
    assert "can't be the prefix of an environment" in done.stderr
    assert "\n" in name or name in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_where_one_may_not_write_it_says_so_at_once(small_script: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(small_script, f"{folder}/chat.sh")
        os.chmod(folder, 0o555)
        done = run(["sh", "chat.sh"], Path(folder), **({"user": 65534} if os.geteuid() == 0 else {}))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"chat.sh: you may not write to {os.path.realpath(folder)}. Name a folder elsewhere\n"


def test_through_a_pipe_it_says_what_to_do(small_script: Path, tmp_path: Path) -> None:
    with small_script.open("rb") as file:
        done = run(["sh"], tmp_path, stdin=file)
    assert (done.returncode, "Save it as a file" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


ENDED = {
    signal.SIGINT: (130, "interrupted"),
    signal.SIGHUP: (129, "ended by SIGHUP"),
    signal.SIGTERM: (143, "ended by SIGTERM"),
    signal.SIGKILL: (-9, ""),
}


@pytest.mark.parametrize("number", ENDED)
def test_killed_it_leaves_nothing_that_counts(number: signal.Signals, script: Path, tmp_path: Path) -> None:
    running = subprocess.Popen(["sh", script, "place"], cwd=tmp_path, stdout=-1, stderr=-1, start_new_session=True)
    while not list(tmp_path.glob(".place.unpacking.*/lib")):
        assert running.poll() is None
        time.sleep(0.005)
    os.killpg(running.pid, number)
    stderr = running.communicate()[1].decode()
    code, said = ENDED[number]
    assert running.returncode == code
    assert not (tmp_path / "place").exists()
    if said:
        assert f"{script.name}: {said}; nothing is left behind\n" in stderr
        assert list(tmp_path.iterdir()) == []
    assert run([script, "place"], tmp_path).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_two_at_once_one_wins_and_the_other_says_so(small_script: Path, tmp_path: Path) -> None:
    both = [
        subprocess.Popen(["sh", small_script, "place"], cwd=tmp_path, stdout=-1, stderr=-1, text=True) for _ in range(2)
    ]
    said = [running.communicate()[1] for running in both]
    assert sorted(running.returncode for running in both) == [0, 1]
    (lost,) = filter(None, said)
    assert "place is there already and not empty" in lost or "place appeared meanwhile" in lost
    assert lost.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    assert (tmp_path / "place/bin/tool").is_file()


def test_a_disk_that_fills_meanwhile_is_a_few_lines(small_script: Path, tmp_path: Path) -> None:
    """One with room for few files, whatever their size."""
    tried = f"sh {small_script} {tmp_path}/place; echo $?; ls -A {tmp_path}"
    script = f"mount -t tmpfs -o nr_inodes=12 tmpfs {tmp_path}; {tried}"
    done = run(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script], tmp_path)
    assert done.stdout.endswith("\n1\n")
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    assert "No space left" in lines[0]
    assert lines[3].endswith("it could not be unpacked; nothing is left behind")


WRONG = [
    (["-o", "a.tar.gz", "--self-extracting"], "End it in .sh"),
    (["-o", "a.sh", "--level", "12"], "level 12 does not exist in tar.gz"),
    (["--self-extracting", "--format", "cab"], "'cab' is not one of"),
]


@pytest.mark.parametrize(("options", "said"), WRONG)
def test_wishes_that_contradict_it_get_one_line(
    options: list[str], said: str, small: Path, trainenv: RunCommand, tmp_path: Path
) -> None:
    done = trainenv(None, "pack", "-p", str(small), *options, cwd=tmp_path)
    assert (done.returncode, said in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_the_name_alone_asks_for_a_script() -> None:
    assert formats.chosen(Path("chat.sh")).self_extracting
    assert formats.chosen(None, self_extracting=True).ending == ".sh"

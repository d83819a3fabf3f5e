"""Killed, out of space, out of memory, on the wrong machine: what the archive room does then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.archives.conftest import make_prefix, snapshot
from trainenv import archives, relocation, settings
from trainenv.errors import ArchiveError, EnvironmentExistsError, TrainenvError, UsageError
from trainenv.progress import SilentReporter

POINTS = 12
MEMORY_LIMIT = 200 << 20

PACK = """
    from trainenv.archives import pack
    pack(Path(sys.argv[1]), Path(sys.argv[2]), name="chat", reporter=SilentReporter())
"""
UNPACK = """
    from trainenv.archives import unpack_environment
    unpack_environment(settings.load(sys.argv[2]), Path(sys.argv[1]), reporter=SilentReporter())
"""


def _command(program: str, *arguments: Path) -> list[str]:
    head = """
    import sys
    from pathlib import Path
    from trainenv import settings
    from trainenv.progress import SilentReporter
    """
    # Not getrusage: across exec that keeps the peak of the process that started this one.
    tail = """
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
    """
    text = "".join(textwrap.dedent(part) for part in (head, program, tail))
    return [sys.executable, "-c", text, *map(str, arguments)]


def _seconds(command: list[str]) -> float:
    begun = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def _kill_after(command: list[str], seconds: float) -> None:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_killed_while_packing_there_is_a_whole_archive_or_none(
    small: Path, small_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "chat.tar.zst"
    command = _command(PACK, small, output)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    whole = _seconds(command)
    output.unlink()
    for point in range(POINTS):
        _kill_after(command, whole * (0.3 + 0.7 * point / POINTS))
        if output.exists():
            assert output.read_bytes() == small_archive.read_bytes()
            output.unlink()
    _seconds(command)
    assert output.read_bytes() == small_archive.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [output.name, "temporary"]
    assert list((tmp_path / "temporary").iterdir()) == []


def test_killed_while_unpacking_the_environment_is_whole_or_absent(small_archive: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "b"
    workspace.mkdir()
    prefix = settings.load(workspace).prefix_of("chat")
    command = _command(UNPACK, small_archive, workspace)
    whole = _seconds(command)
    wanted = snapshot(prefix)
    for point in range(POINTS):
        if prefix.exists():
            prefix.rename(tmp_path / f"done{point}")
        _kill_after(command, whole * (0.3 + 0.7 * point / POINTS))
        if prefix.exists():
            assert snapshot(prefix) == wanted
    if prefix.exists():
        prefix.rename(tmp_path / "done")
    _seconds(command)
    assert snapshot(prefix) == wanted
    assert list((prefix.parent / ".trainenv" / "staging").glob("chat-*")) == []


def test_memory_stays_bounded_whatever_the_size(tmp_path: Path) -> None:
    """A binary and a text of 300 MB each, both with the prefix in them, and 100 MB of small files."""
    prefix = make_prefix(tmp_path / "machine_a" / "envs" / "chat")
    for number in range(1600):
        (prefix / "lib" / f"{number}.bin").write_bytes(os.urandom(1 << 16))
    noise = os.urandom(1 << 20)
    for name, filled in (("big.so", b"\0" + os.fsencode(prefix) + bytes(300)), ("big.txt", f"\n{prefix}/x\n".encode())):
        with (prefix / "lib" / name).open("wb") as file:
            for number in range(300):
                file.write(noise if name == "big.so" else b"x" * (1 << 20))
                if number % 100 == 50:
                    file.write(filled)
    archive = tmp_path / "chat.tar.zst"
    packed = subprocess.check_output(_command(PACK, prefix, archive))
    assert int(packed) * 1024 < MEMORY_LIMIT
    (tmp_path / "b").mkdir()
    unpacked = subprocess.check_output(_command(UNPACK, archive, tmp_path / "b"))
    assert int(unpacked) * 1024 < MEMORY_LIMIT
    target = tmp_path / "b/envs/chat"
    for name in ("big.so", "big.txt"):
        assert (target / "lib" / name).read_bytes().count(os.fsencode(target)) == 3
    assert relocation.leftovers(target, [str(prefix)]) == []


def test_no_space_is_one_line_and_leaves_nothing(small: Path, small_archive: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the write fails in the same place."""
    program = """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        from trainenv.errors import TrainenvError
        try:
            {}
        except TrainenvError as error:
            sys.exit(str(error))
    """
    (tmp_path / "b").mkdir()
    for text, arguments in ((PACK, (small, tmp_path / "x.zst")), (UNPACK, (small_archive, tmp_path / "b"))):
        body = textwrap.indent(textwrap.dedent(text), " " * 12).strip()
        done = subprocess.run(_command(program.format(body), *arguments), capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "File too large" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert not (tmp_path / "b/envs/chat").exists()


def test_two_at_once_do_not_write_the_same_output(small: Path, small_archive: Path, tmp_path: Path) -> None:
    output = tmp_path / "chat.tar.zst"
    both = [
        subprocess.Popen(_command(PACK, small, output), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    errors = [process.communicate()[1].decode() for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert any("is being written by another" in text or "exists already" in text for text in errors)
    assert output.read_bytes() == small_archive.read_bytes()


def test_unpacked_as_an_environment_by_its_own_name_or_another(small_archive: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    place = settings.load(tmp_path / "b")
    reporter = SilentReporter()
    name, manifest, _ = archives.unpack_environment(place, small_archive, reporter=reporter)
    assert (name, manifest.name) == ("chat", "chat")
    assert (place.prefix_of("chat") / "etc/tool.conf").read_text().startswith(f"root={place.prefix_of('chat')}\n")
    with pytest.raises(EnvironmentExistsError):
        archives.unpack_environment(place, small_archive, reporter=reporter)
    name = archives.unpack_environment(place, small_archive, name="other", prefix="/opt/c", reporter=reporter).name
    assert (place.prefix_of(name) / "etc/tool.conf").read_text().startswith("root=/opt/c\n")
    with pytest.raises(UsageError):
        archives.unpack_environment(place, small_archive, name="a/b", reporter=reporter)
    with pytest.raises(TrainenvError, match="absolute path"):
        archives.unpack_environment(place, small_archive, name="third", prefix="not/absolute", reporter=reporter)


def test_a_damaged_archive_leaves_no_environment(small_archive: Path, tmp_path: Path) -> None:
    damaged = bytearray(small_archive.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged.tar.zst").write_bytes(damaged)
    place = settings.load(tmp_path)
    with pytest.raises(ArchiveError):
        archives.unpack_environment(place, tmp_path / "damaged.tar.zst", name="chat", reporter=SilentReporter())
    assert not place.prefix_of("chat").exists()
    assert list((place.envs_dir / ".trainenv" / "staging").glob("chat-*")) == []

"""One environment in every format: the same manifest, the same environment, and what other programs make of it."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import subprocess
import tarfile
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from tests.archives.conftest import Snapshot, make_prefix, pack, snapshot, unpack
from tests.conftest import RunCommand
from trainenv import archives
from trainenv.archives import formats
from trainenv.archives.sources import LocalFile
from trainenv.archives.tails import read_tail
from trainenv.errors import ArchiveError, UsageError

TARS = ["tar.gz", "tar"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small prefix without its big files, so that many variants are quick."""
    prefix = make_prefix(tmp_path_factory.mktemp("tiny") / "chat")
    for path in prefix.glob("share/big*"):
        path.unlink()
    return prefix


@pytest.fixture(scope="session")
def packed(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``small`` in each format, not to be changed."""
    folder = tmp_path_factory.mktemp("formats")
    return {name: pack(small, folder / f"chat{formats.FORMATS[name].endings[0]}").path for name in formats.FORMATS}


@pytest.fixture(scope="session")
def tiny_packed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``tiny`` in each format, not to be changed."""
    folder = tmp_path_factory.mktemp("formats")
    return {name: pack(tiny, folder / f"chat{formats.FORMATS[name].endings[0]}").path for name in formats.FORMATS}


@pytest.fixture(scope="session")
def unpacked(packed: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """What the ``.tar.zst`` unpacks to under the prefix ``/opt/chat``."""
    target = tmp_path_factory.mktemp("unpacked") / "chat"
    unpack(packed["tar.zst"], target, "/opt/chat")
    return snapshot(target)


def test_all_formats_have_the_same_manifest(packed: dict[str, Path]) -> None:
    documents = set()
    for archive in packed.values():
        with closing(LocalFile(archive)) as source:
            documents.add(read_tail(source)[0])
    assert len(documents) == 1


@pytest.mark.parametrize("name", TARS)
def test_all_formats_unpack_to_the_same_environment(
    name: str, packed: dict[str, Path], unpacked: Snapshot, tmp_path: Path
) -> None:
    archives.verify_archive(packed[name])
    unpack(packed[name], tmp_path / "chat", "/opt/chat")
    assert snapshot(tmp_path / "chat") == unpacked


@pytest.mark.parametrize("name", TARS)
def test_the_same_environment_gives_the_same_bytes(name: str, packed: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "moved"
    unpack(packed[name], target)
    options = {} if name == "tar" else {"threads": 1}
    again = pack(target, tmp_path / packed[name].name, **options).path
    assert again.read_bytes() == packed[name].read_bytes()


@pytest.mark.parametrize("level", [1, 9])
def test_the_level_is_the_compressors(level: int, packed: dict[str, Path], tmp_path: Path) -> None:
    archive = pack(make_prefix(tmp_path / "chat"), tmp_path / "a.tar.gz", level=level).path
    assert (archive.stat().st_size < packed["tar.gz"].stat().st_size) is (level == 9)


def test_the_tar_inside_is_always_the_same(packed: dict[str, Path]) -> None:
    tar = packed["tar"].read_bytes()
    inside = gzip.decompress(packed["tar.gz"].read_bytes())
    assert tar.startswith(inside)
    assert inside.endswith(bytes(1024))
    assert subprocess.check_output(["zstd", "-dcq", packed["tar.zst"]]) == inside


READERS = {
    "GNU tar": "tar -xf {archive}",
    "GNU tar, piped": "set -o pipefail; cat {archive} | {unpacked} | tar -xf -",
    "bsdtar": "bsdtar -xpf {archive}",
    "bsdtar, piped": "set -o pipefail; cat {archive} | bsdtar -xpf -",
    "busybox": "set -o pipefail; cat {archive} | busybox tar -x{z} -f -",
    "Python": "python3 -c 'import tarfile; tarfile.open(\"{archive}\").extractall()'",
    "Python, piped": (
        "cat {archive} | python3 -c 'import sys, tarfile as t;"
        ' t.open(fileobj=sys.stdin.buffer, mode="r|*").extractall()\''
    ),
}


@pytest.mark.parametrize("name", TARS)
@pytest.mark.parametrize("reader", READERS)
def test_other_programs_read_it_without_a_word(name: str, reader: str, packed: dict[str, Path], tmp_path: Path) -> None:
    z = "z" if name == "tar.gz" else ""
    command = READERS[reader].format(archive=packed[name], z=z, unpacked="gzip -dc" if z else "cat")
    (tmp_path / "chat").mkdir()
    done = subprocess.run(["bash", "-c", f"umask 0; {command}"], cwd=tmp_path / "chat", capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    found = snapshot(tmp_path / "chat")
    manifest = archives.read_manifest(packed[name])
    assert set(found) == {file.path for file in manifest.files}
    for file in manifest.files:
        kind, mode, mtime, content = found[file.path]
        assert kind == file.kind
        if file.kind == "file":
            assert isinstance(content, bytes)
            assert (mode, mtime) == (file.mode, file.mtime)
            assert hashlib.sha256(content).hexdigest() == file.sha256
        if file.kind == "link":
            assert content == file.target


def test_gzip_programs_find_it_whole(packed: dict[str, Path]) -> None:
    for command in (["gzip", "-tv"], ["pigz", "-t"], ["busybox", "gunzip", "-t"]):
        subprocess.run([*command, packed["tar.gz"]], check=True, capture_output=True)


def test_a_machine_without_trainenv_runs_it(environment: Path, tmp_path: Path) -> None:
    archive = pack(environment, tmp_path / "chat.tar.gz", level=1).path
    place = tmp_path / "b" / "chat"
    place.mkdir(parents=True)
    subprocess.run(["tar", "-xzf", archive, "-C", place], check=True)
    assert subprocess.check_output([place / "bin/greet"], text=True) == f"hello from {place}\n"
    subprocess.run([place / "bin/conda-unpack"], check=True, capture_output=True)
    assert subprocess.check_output([place / "bin/teller"], text=True) == f"{place}/share\n"


@pytest.mark.parametrize("name", TARS)
def test_a_damaged_archive_is_refused_or_harmless(name: str, tiny_packed: dict[str, Path], tmp_path: Path) -> None:
    """Bytes changed, cut off, put in between: the environment is the right one or there is none."""
    whole = tiny_packed[name].read_bytes()
    unpack(tiny_packed[name], tmp_path / "sound", "/opt/chat")
    sound = snapshot(tmp_path / "sound")
    chance = random.Random(11)
    damaged = tmp_path / "damaged"
    refused = 0
    for number in range(150):
        data = bytearray(whole)
        where = chance.randrange(len(data) - 3000, len(data)) if number % 3 else chance.randrange(len(data))
        if number % 5 == 0:
            data = data[:where]
        elif number % 5 == 1:
            data[where:where] = chance.randbytes(chance.randrange(1, 600))
        else:
            data[where] ^= 1 << chance.randrange(8)
        damaged.write_bytes(data)
        try:
            unpack(damaged, tmp_path / "target", "/opt/chat")
        except ArchiveError as error:
            refused += 1
            assert str(damaged) in str(error)
        else:
            assert snapshot(tmp_path / "target") == sound, number
        shutil.rmtree(tmp_path / "target")
    assert refused > 140


@pytest.mark.parametrize("name", TARS)
def test_a_lying_index_or_footer_is_refused(name: str, tiny_packed: dict[str, Path], tmp_path: Path) -> None:
    """Sizes that can't be, and a manifest that unpacks to a gigabyte."""
    whole = tiny_packed[name].read_bytes()
    begin = whole.rindex(b"trainenv")
    for field in range(4):
        for value in (0, 1, 1 << 20, 1 << 31, 1 << 40, (1 << 64) - 1):
            data = bytearray(whole)
            position = begin + 20 + 8 * field
            if int.from_bytes(data[position : position + 8], "little") == value:
                continue
            data[position : position + 8] = value.to_bytes(8, "little")
            (tmp_path / "lying").write_bytes(data)
            with pytest.raises(ArchiveError, match="lying"):
                archives.read_manifest(tmp_path / "lying")


def test_a_manifest_bomb_behind_a_tar_is_refused(tiny_packed: dict[str, Path], tmp_path: Path) -> None:
    from trainenv.archives import footer

    with closing(LocalFile(tiny_packed["tar"])) as source:
        ending = footer.read(source)
    assert ending is not None
    bomb = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = bomb.compress(bytes(1 << 26)) + bomb.flush()
    whole = tiny_packed["tar"].read_bytes()
    head = bytearray(whole[-116:])
    for size in (100, 1 << 26, 1 << 40):
        head[28:36] = len(packed).to_bytes(8, "little")
        head[36:44] = size.to_bytes(8, "little")
        padding = -(ending.body + len(packed) + len(ending.index) + len(head)) % 512
        (tmp_path / "bomb").write_bytes(whole[: ending.body] + packed + ending.index + bytes(padding) + head)
        with pytest.raises(ArchiveError, match="bomb"):
            archives.read_manifest(tmp_path / "bomb")


CHOICES = [
    ("chat.tar.zst", None, "tar.zst"),
    ("chat.tzst", None, "tar.zst"),
    ("chat.TAR.GZ", None, "tar.gz"),
    ("chat.tgz", None, "tar.gz"),
    ("chat.tar", None, "tar"),
    ("chat-1.2", None, "tar.zst"),
    ("chat-1.2", "tar.gz", "tar.gz"),
    (None, "tar", "tar"),
    (None, None, "tar.zst"),
]


@pytest.mark.parametrize(("output", "name", "expected"), CHOICES)
def test_the_name_of_the_output_says_the_format(output: str | None, name: str | None, expected: str) -> None:
    assert formats.chosen(None if output is None else Path(output), name).format.name == expected


WRONG = [
    (["-o", "a.zip"], "writes no archive such as a.zip"),
    (["-o", "a.tar.xz"], "writes no archive"),
    (["-o", "a.tar.gz", "--format", "tar.zst"], "a.tar.gz is no name for format tar.zst"),
    (["-o", "a.tar.xz", "--format", "tar.zst"], "is no name for format"),
    (["-o", "a.tar", "--level", "3"], "format tar has no --level"),
    (["-o", "a.tar", "--threads", "2"], "format tar has no --threads"),
    (["-o", "a.tar.gz", "--level", "12"], "level 12 does not exist in tar.gz. Choose one from 1 to 9"),
    (["-o", "a.tar.zst", "--level", "0"], "level 0 does not exist in tar.zst"),
    (["--threads", "0"], "0 threads"),
    (["--format", "cab"], "'cab' is not one of"),
]


@pytest.mark.parametrize(("options", "said"), WRONG)
def test_wishes_that_contradict_each_other_get_one_line(
    options: list[str], said: str, tiny: Path, trainenv: RunCommand, tmp_path: Path
) -> None:
    done = trainenv(None, "pack", "-p", str(tiny), *options, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_pack_unpack_and_inspect_take_a_tar_gz(tiny: Path, trainenv: RunCommand, tmp_path: Path) -> None:
    home = {**os.environ, "TRAINENV_HOME": str(tmp_path / "home")}
    options = {"cwd": tmp_path, "env": home}
    packed = trainenv(None, "pack", "-p", str(tiny), "--format", "tar.gz", "--json", **options)
    assert json.loads(packed.stdout)["path"] == "chat.tar.gz"
    assert (tmp_path / "chat.tar.gz").read_bytes().startswith(b"\x1f\x8b")
    shown = trainenv(None, "inspect", "chat.tar.gz", "--verify", "--json", **options)
    assert json.loads(shown.stdout)["name"] == "chat"
    assert trainenv(None, "unpack", "chat.tar.gz", "-n", "b", **options).returncode == 0
    assert subprocess.check_output([tmp_path / "home/envs/b/bin/tool", "x"], text=True) == "tool x\n"


def test_a_format_that_does_not_exist_is_named() -> None:
    with pytest.raises(UsageError, match=r"no format 'cab'.*tar\.gz"):
        formats.chosen(None, "cab")


def test_python_lists_the_tar_of_a_tar_gz(packed: dict[str, Path]) -> None:
    with tarfile.open(packed["tar.gz"]) as tar:
        names = [member.name for member in tar.getmembers()]
    assert names == [file.path for file in archives.read_manifest(packed["tar.gz"]).files]

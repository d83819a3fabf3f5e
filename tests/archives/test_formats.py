"""One environment in every format: the same manifest, the same environment, and what other programs make of it."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.archives.conftest import Snapshot, make_prefix, pack, snapshot, unpack
from tests.conftest import RunCommand, program
from trainenv import Workspace, archives
from trainenv.archives import footer, formats
from trainenv.archives.sources import LocalFile
from trainenv.archives.tails import read_tail
from trainenv.errors import ArchiveError, UsageError

TARS = ["tar.gz", "tar"]
OTHERS = [*TARS, "squashfs", "folder"]


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
    return in_every_format(small, folder)


@pytest.fixture(scope="session")
def tiny_packed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``tiny`` in each format, not to be changed."""
    folder = tmp_path_factory.mktemp("formats")
    return in_every_format(tiny, folder)


def in_every_format(prefix: Path, folder: Path) -> dict[str, Path]:
    """The archives of ``prefix``, by format."""
    return {
        name: pack(prefix, folder / f"chat{format.endings[0]}", format=name).path
        for name, format in formats.FORMATS.items()
    }


@pytest.fixture(scope="session")
def unpacked(packed: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """What the ``.tar.zst`` unpacks to under the prefix ``/opt/chat``."""
    target = tmp_path_factory.mktemp("unpacked") / "chat"
    unpack(packed["tar.zst"], target, "/opt/chat")
    return snapshot(target)


def test_all_formats_have_the_same_manifest(packed: dict[str, Path]) -> None:
    documents = set()
    for name, archive in packed.items():
        if name == "folder":
            subprocess.run(["sha256sum", "-c", "manifest.json.sha256"], cwd=archive / "conda-meta/trainenv", check=True)
            documents.add((archive / "conda-meta/trainenv/manifest.json").read_bytes())
            continue
        with closing(LocalFile(archive)) as source:
            documents.add(read_tail(source)[0])
    assert len(documents) == 1


@pytest.mark.parametrize("name", OTHERS)
def test_all_formats_unpack_to_the_same_environment(
    name: str, packed: dict[str, Path], unpacked: Snapshot, tmp_path: Path
) -> None:
    archives.verify_archive(packed[name])
    unpack(packed[name], tmp_path / "chat", "/opt/chat")
    assert snapshot(tmp_path / "chat") == unpacked


@pytest.mark.parametrize("name", OTHERS)
def test_the_same_environment_gives_the_same_bytes(name: str, packed: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "moved"
    unpack(packed[name], target)
    options = {"threads": 1} if formats.FORMATS[name].levels else {}
    again = pack(target, tmp_path / packed[name].name, format=name, **options).path
    if name == "folder":
        assert snapshot(again) == snapshot(packed[name])
    else:
        assert again.read_bytes() == packed[name].read_bytes()


@pytest.mark.parametrize(("name", "low", "high"), [("tar.gz", 1, 9), ("squashfs", 1, 12)])
def test_the_level_is_the_compressors(name: str, low: int, high: int, tmp_path: Path) -> None:
    prefix = make_prefix(tmp_path / "chat")
    shutil.rmtree(prefix / "share")
    chance = random.Random(3)
    words = [chance.randbytes(chance.randrange(2, 12)).hex() for _ in range(3000)]
    (prefix / "etc/words").write_text(" ".join(chance.choice(words) for _ in range(100_000)))
    sizes = [pack(prefix, tmp_path / str(level), format=name, level=level).path.stat().st_size for level in (low, high)]
    assert sizes[1] < 0.97 * sizes[0]


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
    subprocess.run(["busybox", "gunzip", "-t", archive], check=True)
    place = tmp_path / "b" / "chat"
    place.mkdir(parents=True)
    subprocess.run(["tar", "-xzf", archive, "-C", place], check=True)
    assert subprocess.check_output([place / "bin/greet"], text=True) == f"hello from {place}\n"
    subprocess.run([place / "bin/conda-unpack"], check=True, capture_output=True)
    assert subprocess.check_output([place / "bin/teller"], text=True) == f"{place}/share\n"


@pytest.mark.parametrize("name", [*TARS, "squashfs"])
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
            assert str(damaged) in str(error), number
        else:
            assert snapshot(tmp_path / "target") == sound, number
        shutil.rmtree(tmp_path / "target")
    assert refused > 140


@pytest.mark.parametrize("name", [*TARS, "squashfs"])
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
    ("chat.sqfs", None, "squashfs"),
    ("chat", "folder", "folder"),
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
    (["--format", "folder", "--level", "3"], "format folder has no --level"),
    (["-o", "a.tar", "--format", "folder"], "Leave out the ending"),
    (["-o", "a.squashfs", "--level", "23"], "Choose one from 1 to 22"),
    (["--format", "squashfs", "--self-extracting"], "format squashfs can't be self-extracting"),
    (["--format", "folder", "--sign"], "a folder can't be signed"),
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


@pytest.mark.parametrize("name", ["tar.zst", *TARS, "squashfs"])
def test_without_its_last_byte_it_is_no_archive_of_another_program(
    name: str, tiny_packed: dict[str, Path], tmp_path: Path
) -> None:
    """Which would be taken without a sha256 for each file."""
    cut = tmp_path / "cut"
    cut.write_bytes(tiny_packed[name].read_bytes()[:-1])
    with pytest.raises(ArchiveError, match="cut is not a whole trainenv archive"):
        Workspace(tmp_path).inspect(cut)


def test_python_lists_the_tar_of_a_tar_gz(packed: dict[str, Path]) -> None:
    with tarfile.open(packed["tar.gz"]) as tar:
        names = [member.name for member in tar.getmembers()]
    assert names == [file.path for file in archives.read_manifest(packed["tar.gz"]).files]


def test_the_system_mounts_an_image(packed: dict[str, Path], tmp_path: Path) -> None:
    """What is in it is what the manifest says, by ``unsquashfs`` as well."""
    subprocess.run(["unsquashfs", "-q", "-n", "-d", tmp_path / "chat", packed["squashfs"]], check=True)
    found = snapshot(tmp_path / "chat")
    assert set(found) == {file.path for file in archives.read_manifest(packed["squashfs"]).files}


def image_of(folder: Path, output: Path, packed: Path, *options: str) -> Path:
    """An image made by hand of ``folder``, with manifest and footer of the archive ``packed``."""
    with closing(LocalFile(packed)) as source:
        ending = footer.read(source)
    assert ending is not None
    made: list[str | Path] = [
        "mksquashfs",
        folder,
        output,
        "-comp",
        "zstd",
        "-quiet",
        "-no-progress",
        "-no-xattrs",
        "-all-root",
    ]
    subprocess.run([*made, *options], check=True)
    size = output.stat().st_size
    with output.open("r+b") as file:
        digests = [hashlib.sha256(block).digest() for block in iter(lambda: file.read(4 << 20), b"")]
        file.write(footer.of_image(ending.manifest, size, digests))
    return output


def _pipe(root: Path) -> None:
    (root / "etc/tool.conf").unlink()
    os.mkfifo(root / "etc/tool.conf")


def _link_out(root: Path) -> None:
    (root / "etc/tool.conf").unlink()
    (root / "etc/tool.conf").symlink_to("/etc/passwd")


def _folder_link(root: Path) -> None:
    shutil.rmtree(root / "etc")
    (root / "etc").symlink_to("/etc")


HOSTILE: dict[str, Callable[[Path], object]] = {
    "nothing": lambda root: root,
    "one more": lambda root: (root / "etc/more").write_text("x"),
    "one less": lambda root: (root / "etc/tool.conf").unlink(),
    "another content": lambda root: (root / "etc/tool.conf").write_text("x" * (root / "etc/tool.conf").stat().st_size),
    "another size": lambda root: (root / "etc/tool.conf").write_text("x"),
    "another mode": lambda root: (root / "etc/tool.conf").chmod(0o777),
    "setuid": lambda root: (root / "etc/tool.conf").chmod(0o4644),
    "a pipe": _pipe,
    "a link out": _link_out,
    "a folder that is a link": _folder_link,
}


@pytest.mark.parametrize("form", ["squashfs", "folder"])
@pytest.mark.parametrize("edit", HOSTILE)
def test_what_is_not_as_the_manifest_says_is_refused(
    form: str, edit: str, tiny_packed: dict[str, Path], tmp_path: Path
) -> None:
    """A sound footer around an image that is not what it says, or a folder in which somebody was at work."""
    root = tmp_path / "root"
    shutil.copytree(tiny_packed["folder"], root, symlinks=True)
    before = (root / "etc/tool.conf").stat()
    HOSTILE[edit](root)
    if (root / "etc/tool.conf").is_file() and not (root / "etc/tool.conf").is_symlink():
        os.utime(root / "etc/tool.conf", (before.st_mtime, before.st_mtime))
    archive = root
    if form == "squashfs":
        for path in (root / "conda-meta/trainenv").glob("manifest.*"):
            path.unlink()
        for folder, _, _ in os.walk(root):
            os.utime(folder, (315532800, 315532800))
        options = ["-p", "etc/tool.conf m 4644 0 0"] if edit == "setuid" else []
        archive = image_of(root, tmp_path / "image", tiny_packed["squashfs"], *options)
    harmless = edit == "nothing" or (form == "folder" and edit in ("another mode", "setuid"))
    if harmless:
        archives.verify_archive(archive)
        unpack(archive, tmp_path / "chat", "/opt/chat")
        assert (tmp_path / "chat/etc/tool.conf").stat().st_mode == before.st_mode
        return
    with pytest.raises(ArchiveError, match=re.escape(str(archive))):
        archives.verify_archive(archive)
    with pytest.raises(ArchiveError, match=r"etc"):
        unpack(archive, tmp_path / "chat", "/opt/chat")


def test_bytecode_in_a_folder_is_passed_over_and_an_environment_is_no_archive(
    tiny_packed: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "chat"
    shutil.copytree(tiny_packed["folder"], folder, symlinks=True)
    (folder / "lib/python3.1/site-packages/__pycache__").mkdir()
    (folder / "lib/python3.1/site-packages/__pycache__/dist.cpython-31.pyc").write_bytes(b"x")
    archives.verify_archive(folder)
    (folder / "conda-meta/trainenv/manifest.json").write_bytes(b"{}")
    with pytest.raises(ArchiveError, match="manifest has not the recorded sha256"):
        archives.read_manifest(folder)
    shutil.rmtree(folder)
    shutil.copytree(tiny_packed["folder"], folder, symlinks=True)
    subprocess.run([folder / "bin/conda-unpack"], check=True, capture_output=True)
    with pytest.raises(ArchiveError, match=f"with the prefix {folder}.*pack -p"):
        archives.read_manifest(folder)
    again = pack(folder, tmp_path / "again.tar").path
    assert again.read_bytes() == tiny_packed["tar"].read_bytes()


def test_without_mksquashfs_it_is_said_what_to_install(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ArchiveError, match=r"mksquashfs.*squashfs-tools"):
        pack(tiny, tmp_path / "a.squashfs")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["squashfs", "folder"])
def test_what_a_killed_packer_left_is_taken_over(name: str, tiny: Path, tmp_path: Path) -> None:
    left = tmp_path / ".chat.part"
    if name == "folder":
        (left / "bin").mkdir(parents=True)
        (left / "bin/old").write_text("old")
        left.joinpath("bin").chmod(0o500)
    else:
        left.write_bytes(b"old" * 1000)
    archive = pack(tiny, tmp_path / "chat", format=name).path
    archives.verify_archive(archive)
    with pytest.raises(ArchiveError, match="exists already"):
        pack(tiny, tmp_path / "chat", format=name)
    assert [path.name for path in tmp_path.iterdir()] == ["chat"]


def test_a_full_disk_is_one_line_and_leaves_nothing(small: Path, tmp_path: Path) -> None:
    """In a mount namespace of its own, where a small disk is mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = " ".join(program(None, "pack", "-p", str(small), "-o"))
    tried = "; ".join(f"{command} {disk}/chat --format {name}; echo $?; ls -A {disk}" for name in formats.FORMATS)
    script = f"mount -t tmpfs -o size=1m tmpfs {disk}; {tried}"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1"] * len(formats.FORMATS)
    told = f"error: {disk}/chat can't be written: No space left on device. Free some space or choose another disk\n"
    assert done.stderr.count(told) == len(formats.FORMATS)
    assert "Traceback" not in done.stderr

"""Packed and unpacked: the same environment with another prefix, and again the same bytes."""

from __future__ import annotations

import io
import json
import os
import py_compile
import shutil
import struct
import subprocess
import tarfile
import threading
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from tests.archives.conftest import BIG_BINARY, BIG_TEXT, BINARY, extract, make_prefix, pack, snapshot, unpack
from tests.conftest import RunCommand
from trainenv import archives, relocation
from trainenv.archives import formats, frames, writing
from trainenv.archives.reading import frames_of
from trainenv.archives.sources import LocalFile
from trainenv.archives.tails import read_tail
from trainenv.errors import ArchiveError, RelocationError
from trainenv.progress import SilentReporter


@pytest.mark.parametrize("place", ["b", "somewhere/much/longer/and/deeper/than/it/was/before/by/far/chat"])
def test_all_files_arrive_with_the_new_prefix(small: Path, small_archive: Path, tmp_path: Path, place: str) -> None:
    target = tmp_path / place
    unpack(small_archive, target)
    before, after = snapshot(small), snapshot(target)
    added = {"conda-meta/trainenv", "conda-meta/trainenv/prefix", "conda-meta/trainenv/relocation.json"}
    assert set(after) - set(before) == added
    assert set(before) - set(after) == set()
    assert {path: entry[:3] for path, entry in before.items()} == {
        path: entry[:3] for path, entry in after.items() if path not in added
    }
    assert relocation.leftovers(target, [str(small), relocation.PLACEHOLDER]) == []
    assert (target / "etc/tool.conf").read_text() == (small / "etc/tool.conf").read_text().replace(
        f"{small}/", f"{target}/"
    ).replace(f"root={small}\n", f"root={target}\n")
    assert (target / BIG_TEXT).read_bytes() == (small / BIG_TEXT).read_bytes().replace(
        os.fsencode(small), os.fsencode(target)
    )
    for path in (BINARY, BIG_BINARY):
        content = (target / path).read_bytes()
        assert len(content) == (small / path).stat().st_size
        assert os.fsencode(target) in content
    assert os.readlink(target / "bin/tool-by-absolute-link") == "tool"
    assert subprocess.check_output([target / "bin/tool", "x"], text=True) == "tool x\n"
    assert (target / "conda-meta/trainenv/prefix").read_text() == f"{target}\n"


def test_a_pyc_stays_valid_for_its_moved_source(small_archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    unpack(small_archive, target)
    source = target / "lib/python3/site-packages/pkg/__init__.py"
    (cached,) = (source.parent / "__pycache__").glob("__init__.*.pyc")
    recorded = cached.read_bytes()[8:16]
    assert int.from_bytes(recorded[:4], "little") == int(source.stat().st_mtime)
    assert int.from_bytes(recorded[4:], "little") == source.stat().st_size


def test_the_prefix_may_be_another_than_the_folder(small_archive: Path, tmp_path: Path) -> None:
    unpack(small_archive, tmp_path / "host", target_prefix="/opt/conda/envs/chat")
    again = pack(tmp_path / "host", tmp_path / "again.tar.zst")
    assert (tmp_path / "host/etc/tool.conf").read_text().startswith("root=/opt/conda/envs/chat\n")
    assert again.path.read_bytes() == small_archive.read_bytes()


def test_what_was_built_for_another_prefix_is_packed_by_it(tmp_path: Path, small_archive: Path) -> None:
    unpack(small_archive, tmp_path / "host", target_prefix="/opt/conda/envs/chat")
    shutil.rmtree(tmp_path / "host/conda-meta/trainenv")
    pack(tmp_path / "host", tmp_path / "again.tar.zst", source_prefix="/opt/conda/envs/chat")
    unpack(tmp_path / "again.tar.zst", tmp_path / "b")
    assert (tmp_path / "b/etc/tool.conf").read_text().startswith(f"root={tmp_path}/b\n")


def test_the_same_environment_anywhere_gives_the_same_bytes(environment: Path, tmp_path: Path) -> None:
    """A -> B -> C -> A, over prefixes of different lengths, with an interpreter and a compiled program."""
    first = pack(environment, tmp_path / "a.tar.zst").path
    previous = first
    long = "c/with/a/prefix/that/is/longer/than/any/of/the/others/in/this/test/chat"
    for step, place in enumerate(["b", long, "Anna's modèles", "100% 😀 (a & b); #{c}", "a"]):
        target = tmp_path / place
        unpack(previous, target)
        assert relocation.leftovers(target, [str(environment), relocation.PLACEHOLDER]) == []
        told = subprocess.check_output([target / "bin/teller"], text=True)
        greeted = subprocess.check_output([target / "bin/greet"], text=True)
        assert (told, greeted) == (f"{target}/share\n", f"hello from {target}\n")
        previous = pack(target, tmp_path / f"{step}.tar.zst").path
        assert previous.read_bytes() == first.read_bytes()


def test_packing_right_after_tar_gives_the_same_bytes(small_archive: Path, tmp_path: Path) -> None:
    extracted = extract(small_archive, tmp_path / "extracted")
    assert pack(extracted, tmp_path / "again.tar.zst").path.read_bytes() == small_archive.read_bytes()


def test_threads_do_not_change_the_bytes_and_levels_do(small: Path, tmp_path: Path) -> None:
    one = pack(small, tmp_path / "1", threads=1).path.read_bytes()
    four = pack(small, tmp_path / "4", threads=4).path.read_bytes()
    better = pack(small, tmp_path / "19", level=12).path.read_bytes()
    assert one == four
    assert len(better) < len(one)


def test_threads_are_as_many_as_asked_for(tmp_path: Path) -> None:
    block = os.urandom(1 << 16) * (frames.FRAME_SIZE >> 16)
    with open(tmp_path / "out", "w+b") as file:
        packed = writing.sink(formats.chosen(None, level=9, threads=3), file)
        writer = frames.FrameWriter(packed)
        for _ in range(5):
            writer.write(block)
            writer.end_frame()
        working = [thread for thread in threading.enumerate() if thread.name.startswith("compress")]
        packed.close()
    assert len(working) == 3


def test_tar_and_zstd_and_python_read_it(small_archive: Path, tmp_path: Path) -> None:
    manifest = archives.read_manifest(small_archive)
    subprocess.run(["zstd", "-qt", small_archive], check=True)
    extracted = snapshot(extract(small_archive, tmp_path / "extracted"))
    assert set(extracted) == {file.path for file in manifest.files}
    raw = zstandard.ZstdDecompressor().stream_reader(small_archive.open("rb"), read_across_frames=True).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == [file.path for file in manifest.files]
    kinds = {file.path: (file.kind, file.mode) for file in manifest.files if file.kind != "link"}
    assert {path: entry[:2] for path, entry in extracted.items() if entry[0] != "link"} == kinds


def test_bsdtar_unpacks_what_gnu_tar_unpacks(small_archive: Path, tmp_path: Path) -> None:
    by_gnu = snapshot(extract(small_archive, tmp_path / "gnu"))
    (tmp_path / "bsd").mkdir()
    subprocess.run(["bsdtar", "-xpf", small_archive, "-C", tmp_path / "bsd"], check=True)
    assert snapshot(tmp_path / "bsd") == by_gnu
    assert by_gnu


def test_a_frame_alone_gives_its_members(small_archive: Path) -> None:
    """Random access: the sizes of members and frames say in which frame a member begins, and how far in."""
    with closing(LocalFile(small_archive)) as source:
        _, table = read_tail(source)
        raw = small_archive.read_bytes()
        files = archives.read_manifest(small_archive).files
        for member in files:
            index = frames_of(files, [member], table)[0]
            frame, offset = table[index], files.begins[member.number] - sum(each.size for each in table[:index])
            content = zstandard.ZstdDecompressor().decompress(raw[frame.start : frame.start + frame.compressed])
            if member.kind == "file" and member.size < 10_000:
                with tarfile.open(fileobj=io.BytesIO(content[offset:])) as tar:
                    found = tar.next()
                assert found is not None
                assert (found.name, found.size) == (member.path, member.size)


def test_members_are_grouped_by_package(small_archive: Path) -> None:
    files = [file for file in archives.read_manifest(small_archive).files if file.kind != "folder"]
    owners = list(dict.fromkeys(file.owner for file in files))
    assert owners == ["conda:tool", "pypi:dist", "", "trainenv"]
    assert [file.owner for file in files] == sorted((file.owner for file in files), key=owners.index)


def test_the_manifest_says_what_is_inside(environment_archive: Path, environment: Path) -> None:
    archive = archives.open_archive(environment_archive)
    assert archive.bytes == environment_archive.stat().st_size
    names = {package.name: package.build for package in archive.manifest.packages}
    assert names["greeter"] == "pypi"
    assert names["teller"] == "0"
    assert archive.host_needs.machine == os.uname().machine
    assert archive.host_needs.glibc is not None
    assert archive.python is not None
    shown = json.dumps(archive.to_json())
    assert str(environment) not in shown
    with closing(LocalFile(environment_archive)) as source:
        document, _ = read_tail(source)
    assert str(environment.parent).encode() not in document


def test_records_of_conda_lose_what_is_true_here_only(small_archive: Path, tmp_path: Path) -> None:
    unpack(small_archive, tmp_path / "b")
    record = json.loads((tmp_path / "b/conda-meta/tool-1.0-0.json").read_text())
    assert "secret" not in json.dumps(record)
    assert "tk-123" not in json.dumps(record)
    assert record["url"] == "https://mirror.invalid/linux-64/tool-1.0-0.conda"
    assert "extracted_package_dir" not in record
    assert record["link"] == {"source": "", "type": 1}
    assert record["files"] == ["bin/tool", "etc/tool.conf", BINARY, BIG_BINARY]


def test_rattler_reads_the_unpacked_records(environment_archive: Path, tmp_path: Path) -> None:
    from rattler import PrefixRecord

    unpack(environment_archive, tmp_path / "b")
    read = [PrefixRecord.from_path(path) for path in (tmp_path / "b/conda-meta").glob("*.json")]
    assert {"python", "teller"} <= {record.name.normalized for record in read}


def test_a_changed_file_is_packed_as_it_is_now(small_archive: Path, tmp_path: Path) -> None:
    unpack(small_archive, tmp_path / "b")
    (tmp_path / "b/etc/tool.conf").write_text(f"new={tmp_path}/b/etc\n")
    pack(tmp_path / "b", tmp_path / "b.tar.zst")
    unpack(tmp_path / "b.tar.zst", tmp_path / "c")
    assert (tmp_path / "c/etc/tool.conf").read_text() == f"new={tmp_path}/c/etc\n"


def test_one_that_was_moved_by_hand_may_name_both_places(small_archive: Path, tmp_path: Path) -> None:
    former, place = tmp_path / "former", tmp_path / "its/new/place"
    unpack(small_archive, former)
    place.parent.mkdir(parents=True)
    former.rename(place)
    (place / "bin/new").write_text(f"#!{place}/bin/python\nprint('new')\n")
    (place / "etc/both.conf").write_text(f"one={former}/etc\nother={place}/etc\n")
    (place / "etc/big.conf").write_text(f"at={place}/etc\n" + "x" * (9 << 20))
    module = place / "lib/python3/site-packages/made_here.py"
    module.write_text(f"HOME = {str(place)!r}\n")
    os.utime(module, (1_600_000_000, 1_600_000_000))
    py_compile.compile(str(module), doraise=True)
    target = tmp_path / "c"
    unpack(pack(place, tmp_path / "c.tar.zst").path, target)
    assert relocation.leftovers(target, [str(former), str(place)]) == []
    assert (target / "bin/new").read_text().startswith(f"#!{target}/bin/python\n")
    assert (target / "etc/both.conf").read_text() == f"one={target}/etc\nother={target}/etc\n"
    assert (target / "etc/big.conf").read_text().startswith(f"at={target}/etc\n")
    moved = target / "lib/python3/site-packages/made_here.py"
    (cached,) = (moved.parent / "__pycache__").glob("made_here.*.pyc")
    assert int.from_bytes(cached.read_bytes()[12:16], "little") == moved.stat().st_size


def test_a_binary_without_room_is_named_before_anything_is_written(tmp_path: Path) -> None:
    prefix = make_prefix(tmp_path / "a_prefix_of_some_length")
    (prefix / "lib/tight.bin").write_bytes(b"\0" + os.fsencode(prefix) + b"\0end")
    archive = pack(prefix, tmp_path / "a.tar.zst").path
    room = len(os.fsencode(prefix))
    with pytest.raises(RelocationError, match=rf"lib/tight\.bin has no room.*at most {room} bytes"):
        unpack(archive, tmp_path / "b", target_prefix="/" + "x" * room)
    assert list((tmp_path / "b").iterdir()) == []
    unpack(archive, tmp_path / "c", target_prefix="/" + "x" * (room - 1))


def test_an_output_that_exists_is_left_alone(small: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    with pytest.raises(ArchiveError, match="exists already"):
        pack(small, tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / "there"]


def test_a_folder_that_is_no_environment_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    for folder in (tmp_path / "plain", tmp_path / "missing"):
        with pytest.raises(ArchiveError, match="is not an environment"):
            pack(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    prefix = make_prefix(tmp_path / "chat")
    growing = prefix / "share/growing.bin"
    growing.write_bytes(bytes(64 << 20))
    stop = threading.Event()

    def grow() -> None:
        with growing.open("ab") as file:
            while not stop.is_set():
                file.write(b"more")
                file.flush()

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        with pytest.raises(ArchiveError, match=r"share/growing\.bin changed while it was read"):
            pack(prefix, tmp_path / "out.tar.zst")
    finally:
        stop.set()
        writer.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chat"]


def test_what_is_no_file_is_left_out_with_a_notice(tmp_path: Path) -> None:
    prefix = make_prefix(tmp_path / "chat")
    os.mkfifo(prefix / "share/pipe")
    reporter = SilentReporter()
    archive = pack(prefix, tmp_path / "out.tar.zst", reporter=reporter)
    assert "share/pipe" not in {file.path for file in archive.manifest.files}
    assert any("share/pipe" in notice for notice in reporter.notices)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives capabilities")
def test_rights_that_do_not_travel_are_told(tmp_path: Path) -> None:
    prefix = make_prefix(tmp_path / "chat")
    shutil.copy("/bin/true", prefix / "bin/able")
    os.setxattr(prefix / "bin/able", "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
    (prefix / "bin/tool").chmod(0o4755)
    reporter = SilentReporter()
    pack(prefix, tmp_path / "out.tar.zst", reporter=reporter)
    told = sorted(notice for notice in reporter.notices if "packed without" in notice)
    assert len(told) == 2
    assert told[0].startswith("bin/able is packed without its capabilities")
    assert told[1].startswith("bin/tool is packed without its setuid")


@pytest.mark.parametrize("format", ["tar.zst", "squashfs"])
def test_times_that_no_format_holds_and_files_of_zeros(format: str, tmp_path: Path) -> None:
    """Both of clocks that were wrong: before 1970, and after 2106."""
    prefix = make_prefix(tmp_path / "chat")
    shutil.rmtree(prefix / "share")
    with (prefix / "lib/zeros").open("wb") as file:
        file.truncate(1 << 30)
    os.utime(prefix / "etc/tool.conf", (-300_000, -300_000))
    os.utime(prefix / "bin/tool", (5e9, 5e9))
    archive = pack(prefix, tmp_path / f"out.{format}").path
    times = {file.path: file.mtime for file in archives.verify_archive(archive).files}
    assert (times["etc/tool.conf"], times["bin/tool"]) == (0, (1 << 32) - 1)


@pytest.mark.parametrize("what", ["name", "link"])
def test_what_is_no_utf_8_is_named(what: str, tmp_path: Path) -> None:
    prefix = make_prefix(tmp_path / "chat")
    odd = os.fsencode(prefix) + b"/lib/caf\xe9"
    if what == "name":
        Path(os.fsdecode(odd)).touch()
    else:
        (prefix / "lib/link").symlink_to(os.fsdecode(b"caf\xe9"))
    with pytest.raises(ArchiveError, match=r"lib/(caf|link).*is not a UTF-8 name"):
        pack(prefix, tmp_path / "out.tar.zst")
    assert [path.name for path in tmp_path.iterdir()] == ["chat"]


def test_how_often_it_was_changed_here_does_not_travel(tmp_path: Path) -> None:
    prefix = make_prefix(tmp_path / "chat")
    shutil.rmtree(prefix / "share")
    before = pack(prefix, tmp_path / "before.tar").path
    (prefix / "conda-meta/trainenv").mkdir()
    (prefix / "conda-meta/trainenv/generation.json").write_text('{"number": 2, "changed": "2026-01-01T00:00:00Z"}')
    assert pack(prefix, tmp_path / "after.tar").path.read_bytes() == before.read_bytes()


def test_a_locale_with_another_encoding_hides_no_prefix(tmp_path: Path, trainenv: RunCommand) -> None:
    prefix = make_prefix(tmp_path / "modèles 😀")
    other = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = trainenv(None, "pack", "-p", str(prefix), "-o", str(tmp_path / "a.tar.zst"), env=other)
    assert done.returncode == 0, done.stderr
    unpack(tmp_path / "a.tar.zst", tmp_path / "b")
    assert relocation.leftovers(tmp_path / "b", [str(prefix)]) == []
    extracted = extract(tmp_path / "a.tar.zst", tmp_path / "ü 😀")
    done = subprocess.run([extracted / "bin/conda-unpack"], capture_output=True, env=other, check=True, text=True)
    assert done.stdout.endswith(f"files now hold {extracted}\n")

"""Damaged, cut and hostile archives: refused in one line, with the file named, and nothing outside touched."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import random
import shutil
import struct
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.archives import rows
from tests.archives.conftest import snapshot, unpack
from tests.archives.rows import Row
from trainenv import archives
from trainenv.archives import formats, frames, tarformat, writing
from trainenv.archives.columns import compact
from trainenv.archives.manifest import Manifest, parse, relocation_json
from trainenv.archives.members import File, Files
from trainenv.archives.reading import frames_of
from trainenv.archives.sources import LocalFile
from trainenv.archives.tails import read_tail
from trainenv.errors import ArchiveError
from trainenv.relocation import PLACEHOLDER

Contents = dict[str, bytes]
Edit = Callable[[dict[str, Any]], object]
"""What a test does to the manifest of an archive."""


@pytest.fixture(scope="session")
def tiny_unpacked(tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    target = tmp_path_factory.mktemp("tiny_unpacked") / "p"
    unpack(tiny_archive, target, "/opt/chat")
    return snapshot(target)


def _refused(archive: Path, target: Path) -> str:
    """The one line with which ``archive`` is refused."""
    with pytest.raises(ArchiveError) as caught:
        unpack(archive, target, "/opt/chat")
    line = str(caught.value)
    assert str(archive) in line
    assert "\n" not in line
    return line


def test_cut_anywhere_it_is_refused(tiny_archive: Path, tmp_path: Path) -> None:
    whole = tiny_archive.read_bytes()
    cuts = {0, 1, 3, 4, 16, 17, len(whole) - 1, len(whole) - 9, len(whole) - 17}
    cuts |= set(range(0, len(whole), max(1, len(whole) // 60)))
    for number, length in enumerate(sorted(cuts)):
        cut = tmp_path / "cut.tar.zst"
        cut.write_bytes(whole[:length])
        line = _refused(cut, tmp_path / str(number))
        assert "not a whole trainenv archive" in line or "not a trainenv archive" in line
        assert list((tmp_path / str(number)).iterdir()) == []


def test_a_flipped_bit_never_gives_another_environment(tiny_archive: Path, tiny_unpacked: Any, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    whole = tiny_archive.read_bytes()
    refused = 0
    for number in range(300):
        position, bit = rng.randrange(len(whole)), rng.randrange(8)
        changed = bytearray(whole)
        changed[position] ^= 1 << bit
        archive = tmp_path / "flipped.tar.zst"
        archive.write_bytes(changed)
        target = tmp_path / "target"
        try:
            unpack(archive, target, "/opt/chat")
        except ArchiveError as error:
            refused += 1
            assert str(archive) in str(error)
        else:
            assert snapshot(target) == tiny_unpacked, (seed, number, position, bit)
        shutil.rmtree(target)
    assert refused > 290


def test_verify_names_the_damaged_file(small_archive: Path, tmp_path: Path) -> None:
    with closing(LocalFile(small_archive)) as source:
        _, table = read_tail(source)
    manifest = archives.verify_archive(small_archive)
    victim = next(file for file in manifest.files if file.path == "share/big.bin")
    damaged = bytearray(small_archive.read_bytes())
    damaged[table[frames_of(manifest.files, [victim], table)[0]].start + 1000] ^= 0xFF
    (tmp_path / "damaged.tar.zst").write_bytes(damaged)
    with pytest.raises(ArchiveError, match=r"'share/big\.bin'"):
        archives.verify_archive(tmp_path / "damaged.tar.zst")


@pytest.mark.parametrize(("version", "said"), [(1, "an earlier trainenv made it"), (3, "a later trainenv made it")])
@pytest.mark.parametrize("ending", ["tar.zst", "tar.gz", "tar"])
def test_another_version_of_the_format_is_said_to_be_that(
    version: int, said: str, ending: str, tiny_archive: Path, tmp_path: Path
) -> None:
    manifest, contents = _parts(tiny_archive)
    archive = _forge(tmp_path / f"a.{ending}", manifest, contents, format=ending)
    old, new = (b"trainenv" + struct.pack("<I", number) for number in (2, version))
    assert archive.read_bytes().count(old) == 1
    archive.write_bytes(archive.read_bytes().replace(old, new))
    assert said in _refused(archive, tmp_path / "target")


@pytest.mark.parametrize("content", [b"", b"plain text\n", b"\x1f" + bytes(100), bytes(5000)])
def test_what_is_no_archive_is_said_to_be_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ArchiveError, match="is not a trainenv archive"):
        archives.read_manifest(tmp_path / "file")


def test_a_tarball_of_another_program_is_said_to_be_that(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(__file__, "x")
    content = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar.zst").write_bytes(zstandard.compress(content))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(content))
    for name in ("a.tar", "a.tar.zst", "a.tar.gz"):
        with pytest.raises(ArchiveError, match="another program than trainenv made it"):
            archives.read_manifest(tmp_path / name)


def test_a_missing_archive_and_a_folder_are_one_line(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "missing", "can't be read: No such file or directory. See whether"),
        (tmp_path, "this folder has no manifest"),
    ):
        with pytest.raises(ArchiveError, match=said):
            archives.read_manifest(path)


def _parts(archive: Path) -> tuple[Manifest, Contents]:
    """The manifest of an archive and the contents of its files."""
    with closing(LocalFile(archive)) as source:
        document, _ = read_tail(source)
    raw = zstandard.ZstdDecompressor().stream_reader(archive.open("rb"), read_across_frames=True).read()
    manifest, contents, position = parse(document), {}, 0
    for file_ in manifest.files:
        if file_.absent:
            continue
        position += len(tarformat.header(*_header_of(file_)))
        if file_.kind == "file":
            contents[file_.path] = raw[position : position + file_.size]
            position += file_.size + tarformat.padding(file_.size)
    return manifest, contents


def _header_of(file: File) -> tuple[str, str, int, int, int, str]:
    return file.path, file.kind, file.mode, file.size, file.mtime, file.target


def _forge(
    output: Path,
    manifest: Manifest,
    contents: Contents,
    *,
    edit_document: Edit = lambda document: None,
    header: Callable[[File], bytes] = lambda file: tarformat.header(*_header_of(file)),
    format: str = "tar.zst",
) -> Path:
    """An archive as ``pack`` would write it of these members, consistent where it is not told otherwise."""
    with open(output, "w+b") as out:
        sink = writing.sink(formats.chosen(None, format, threads=1 if format != "tar" else None), out)
        writer = frames.FrameWriter(sink)
        placed = Files()
        for file in manifest.files:
            if file.absent:
                placed.add(file)
                continue
            content = contents.get(file.path, b"")
            if file.path == "conda-meta/trainenv/relocation.json":
                content = b"".join(relocation_json(PLACEHOLDER, placed))
            if file.kind == "file":
                digest = hashlib.sha256(content).hexdigest()
                file = file._replace(size=len(content), sha256=digest)  # noqa: PLW2901
            writer.write(header(file) + content + bytes(tarformat.padding(len(content))))
            placed.add(file)
        writer.write(tarformat.END)
        document = json.loads(dataclasses.replace(manifest, files=placed).to_json())
        edit_document(document)
        writer.end_frame()
        sink.finish(json.dumps(document).encode())
        sink.close()
    return output


def _with(manifest: Manifest, *extra: File) -> Manifest:
    """``manifest`` with more members before the last two (which trainenv itself makes)."""
    return dataclasses.replace(manifest, files=Files((*manifest.files[:-2], *extra, *manifest.files[-2:])))


def _file(path: str, **values: Any) -> File:
    plain: dict[str, Any] = {"kind": "file", "mode": 0o644, "mtime": 0}
    return File(path=path, **(plain | values))


def test_a_forged_archive_without_malice_is_fine(tiny_archive: Path, tiny_unpacked: Any, tmp_path: Path) -> None:
    """The forge is a good one: what the next tests refuse is refused for what they change."""
    manifest, contents = _parts(tiny_archive)
    forged = _forge(tmp_path / "forged", _with(manifest, _file("bin/x")), contents | {"bin/x": b"abc"})
    unpack(forged, tmp_path / "target", "/opt/chat")
    assert snapshot(tmp_path / "target").keys() == tiny_unpacked.keys() | {"bin/x"}


def _on_rows(change: Callable[[list[Row], dict[str, Row]], object]) -> Edit:
    """An edit of a manifest by ``change``, which gets all members, and the same by path."""

    def edit(document: dict[str, Any]) -> None:
        columns = document["files"]
        members = rows.of_columns(columns)
        change(members, dict(zip(rows.paths(members), members, strict=True)))
        document["files"] = rows.to_columns(members, columns["owners"])

    return edit


def _set(path: str, field: str, value: Any) -> Edit:
    return _on_rows(lambda _, by_path: by_path[path].update({field: value}))


def _moved_into(path: str, folder: str) -> Edit:
    """``path`` lies in the member ``folder``, says the manifest."""
    return _on_rows(lambda members, by_path: by_path[path].update(folder=members.index(by_path[folder]) + 1))


HOSTILE: dict[str, tuple[list[File], Edit]] = {
    "parent": ([_file("bin/x")], _set("bin/x", "name", "..")),
    "parent of a folder": ([_file("bin/x", kind="folder"), _file("bin/x/y")], _set("bin/x", "name", "..")),
    "dot": ([_file("bin/x")], _set("bin/x", "name", ".")),
    "no name": ([_file("bin/x")], _set("bin/x", "name", "")),
    "nul": ([_file("bin/x")], _set("bin/x", "name", "x\0y")),
    "no UTF-8": ([_file("bin/x")], _set("bin/x", "name", "\udcff")),
    "no UTF-8 above": ([_file("bin/x", kind="folder"), _file("bin/x/y")], _set("bin/x", "name", "\udcff")),
    "long": ([_file("bin/x")], _set("bin/x", "name", "x" * 300)),
    "long in all": (
        [_file("/".join(["x" * 250] * depth), kind="folder", mode=0o755) for depth in range(1, 18)],
        lambda _: None,
    ),
    "duplicate": ([_file("bin/x"), _file("bin/y")], _set("bin/y", "name", "x")),
    "file as folder": ([_file("bin/x"), _file("bin/y")], _moved_into("bin/y", "bin/x")),
    "in itself": ([_file("bin/x", kind="folder")], _moved_into("bin/x", "bin/x")),
    "before its folder": ([_file("bin/y"), _file("bin/x", kind="folder")], _moved_into("bin/y", "bin/x")),
    "no folder": ([_file("bin/x")], _set("bin/x", "folder", 10_000)),
    "through a link": (
        [_file("bin/l", kind="link", target="../etc"), _file("bin/x")],
        _moved_into("bin/x", "bin/l"),
    ),
    "link over file": (
        [_file("bin/x"), _file("bin/y", kind="link", target="z")],
        _set("bin/y", "name", "x"),
    ),
    "absolute link": ([_file("bin/l", kind="link", target="/etc/passwd")], lambda _: None),
    "link out": ([_file("bin/l", kind="link", target="../../x")], lambda _: None),
    "link out by a link": ([_file("bin/l", kind="link", target="a/../../..")], lambda _: None),
    "link to nothing": ([_file("bin/l", kind="link", target="x\0y")], lambda _: None),
    "prefix record": ([_file("conda-meta/trainenv/prefix")], lambda _: None),
    "journal": ([_file("conda-meta/trainenv/moving")], lambda _: None),
}


@pytest.mark.parametrize(("members", "edit"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_members_are_refused(members: list[File], edit: Edit, tiny_archive: Path, tmp_path: Path) -> None:
    manifest, contents = _parts(tiny_archive)
    evil = {file.path: b"evil" for file in members if file.kind == "file"}
    forged = _forge(tmp_path / "forged", _with(manifest, *members), contents | evil, edit_document=edit)
    line = _refused(forged, tmp_path / "a/b/c")
    assert "is refused" in line or "its manifest is wrong" in line
    assert list((tmp_path / "a/b/c").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "forged"]


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1755, -1, 1.5, "755", True])
def test_impossible_modes_are_refused(mode: Any, tiny_archive: Path, tmp_path: Path) -> None:
    manifest, contents = _parts(tiny_archive)
    forged = _forge(tmp_path / "forged", manifest, contents, edit_document=_set("bin/conda-unpack", "mode", mode))
    assert "its column of modes" in _refused(forged, tmp_path / "target")


@pytest.mark.parametrize("kind", ["1", "3", "4", "6", "L", "g"])
def test_a_tar_member_of_another_kind_than_the_manifest_says_is_refused(
    kind: str, tiny_archive: Path, tmp_path: Path
) -> None:
    """Hard links, devices, pipes and extensions can only stand in the tar: the manifest has no word for them."""
    manifest, contents = _parts(tiny_archive)

    def header(file: File) -> bytes:
        head = tarformat.header(*_header_of(file))
        if file.path != "bin/x":
            return head
        member = tarfile.TarInfo("bin/x")
        member.type, member.linkname, member.size, member.mode = kind.encode(), "bin/tool", len(b"evil"), 0o644
        return member.tobuf(tarfile.USTAR_FORMAT)

    forged = _forge(tmp_path / "forged", _with(manifest, _file("bin/x")), contents | {"bin/x": b"evil"}, header=header)
    assert "the tar header of 'bin/x'" in _refused(forged, tmp_path / "target")


def _drop(path: str) -> Edit:
    return _on_rows(lambda members, by_path: members.remove(by_path[path]))


def _column(name: str, change: Callable[[Any], Any]) -> Edit:
    """An edit that puts what ``change`` makes of it in the place of a column."""
    return lambda document: document["files"].update({name: change(document["files"][name])})


LIES = {
    "sha256": _set("etc/tool.conf", "sha256", "0" * 64),
    "no sha256": _set("etc/tool.conf", "sha256", "zz"),
    "larger": _set("etc/tool.conf", "size", 100_000),
    "smaller": _set("etc/tool.conf", "size", 3),
    "huge": _set("etc/tool.conf", "size", 1 << 62),
    "huge in all": _column("sizes", lambda sizes: [(1 << 62) - 1] * len(sizes)),
    "beyond": _set("etc/tool.conf", "size", 1 << 70),
    "negative": _set("etc/tool.conf", "size", -512),
    "mtime": _set("etc/tool.conf", "mtime", 77),
    "mode": _set("etc/tool.conf", "mode", 0o755),
    "kind": _set("etc/tool.conf", "kind", "d"),
    "absent": _set("etc/tool.conf", "kind", "a"),
    "device": _set("etc/tool.conf", "kind", "x"),
    "target": _set("bin/tool-by-absolute-link", "target", "python"),
    "no target": _set("bin/tool-by-absolute-link", "target", ""),
    "occurrences of another kind": _set("etc/tool.conf", "occurrences", {"kind": "text", "offsets": [0]}),
    "occurrences far away": _set("etc/tool.conf", "occurrences", {"kind": "binary", "offsets": [1 << 60]}),
    "occurrences that are none": _set("etc/tool.conf", "occurrences", {"kind": 3, "slots": "abc"}),
    "occurrences in a link": _set("bin/tool-by-absolute-link", "occurrences", {"kind": "text", "offsets": [5]}),
    "occurrences without end": _set("etc/tool.conf", "occurrences", {"kind": "text", "offsets": [float("inf")]}),
    "missing file": _drop("etc/tool.conf"),
    "missing folder": _drop("etc"),
    "missing conda-unpack": _drop("bin/conda-unpack"),
    "no files": lambda document: document.update(files={}),
    "files of no type": lambda document: document.update(files=[]),
    "no member": lambda document: document.update(files=rows.to_columns([], [])),
    "a column more": lambda document: document["files"].update(surprise=[]),
    "a column less": lambda document: document["files"].pop("sizes"),
    "more names": _column("names", lambda names: f"{names}/x"),
    "names of no type": _column("names", lambda names: names.split("/")),
    "an absolute name": _column("names", lambda names: f"/{names}"),
    "fewer kinds": _column("kinds", lambda kinds: kinds[:-1]),
    "a letter that is no kind": _column("kinds", lambda kinds: "ä" + kinds[1:]),
    "half a run": _column("folders", lambda runs: runs[:-1]),
    "a run less": _column("modes", lambda runs: runs[:-2]),
    "an empty run": _column("modes", lambda runs: [*runs, 0, 0]),
    "a run backwards": _column("mtimes", lambda runs: [*runs, 0, 1, 0, -1]),
    "an endless run": _column("mtimes", lambda runs: [0, 1 << 62]),
    "runs of half numbers": _column("modes", lambda runs: [420.0, *runs[1:]]),
    "runs of truth": _column("modes", lambda runs: [True, *runs[1:]]),
    "runs of runs": _column("modes", lambda runs: [runs]),
    "runs of no type": _column("modes", lambda runs: "rw"),
    "no such owner": _column("owners", lambda owners: owners[:-1]),
    "an owner of no type": _column("owners", lambda owners: [1, *owners[1:]]),
    "fewer sizes": _column("sizes", lambda sizes: sizes[:-1]),
    "a size of no type": _column("sizes", lambda sizes: ["1", *sizes[1:]]),
    "a digit more": _column("sha256", lambda digests: digests + "0"),
    "a digest more": _column("sha256", lambda digests: digests + "0" * 64),
    "large digits": _column("sha256", lambda digests: digests.upper()),
    "digits apart": _column("sha256", lambda digests: f"{digests[:2]} {digests[2:]}"),
    "an absent one that is not": _column("absent_sha256", lambda digests: "0" * 8),
    "a target more": _column("targets", lambda targets: [*targets, "x"]),
    "targets of no type": _column("targets", lambda targets: [1] * len(targets)),
    "occurrences of nobody": _column("occurrences", lambda held: [{"member": 1 << 40, **held[0]}]),
    "occurrences of a folder": _column("occurrences", lambda held: [{**held[0], "member": 0}, *held]),
    "occurrences twice": _column("occurrences", lambda held: [held[0], *held]),
    "occurrences backwards": _column("occurrences", lambda held: held[::-1]),
    "occurrences in no order of fields": _column(
        "occurrences", lambda held: [dict(reversed(each.items())) for each in held]
    ),
    "no name": lambda document: document.update(name=3),
    "another version": lambda document: document.update(version=99),
    "no packages": lambda document: document.pop("packages"),
    "packages of no type": lambda document: document.update(packages=["numpy"]),
    "no host needs": lambda document: document.update(host_needs=None),
}


@pytest.mark.parametrize("size", [1, (128 << 10) - 1, 128 << 10, frames.FRAME_SIZE, 9 << 20])
@pytest.mark.parametrize("is_last", [False, True])
def test_another_content_than_the_recorded_is_refused_whatever_its_size(
    size: int, is_last: bool, tiny_archive: Path, tmp_path: Path
) -> None:
    """Small and large files are hashed at different places, and a large one may be followed by others."""
    manifest, contents = _parts(tiny_archive)
    names = ["share", "share/a"] if is_last else ["share", "share/a", "share/b"]
    extra = [_file(name, kind="folder" if name == "share" else "file", mode=0o755) for name in names]
    manifest = _with(manifest, *extra)
    contents |= dict.fromkeys(names[1:], b"x" * size)
    unpack(_forge(tmp_path / "sound", manifest, contents), tmp_path / "whole")
    assert (tmp_path / "whole/share/a").read_bytes() == b"x" * size
    lie = _set("share/a", "sha256", hashlib.sha256(b"x" * size + b"y").hexdigest())
    forged = _forge(tmp_path / "forged", manifest, contents, edit_document=lie)
    assert "'share/a' has not the sha256" in _refused(forged, tmp_path / "target")
    with pytest.raises(ArchiveError, match="'share/a' has not the sha256"):
        archives.verify_archive(forged)


@pytest.mark.parametrize("edit", LIES.values(), ids=LIES.keys())
def test_a_lying_manifest_is_refused(edit: Edit, tiny_archive: Path, tmp_path: Path) -> None:
    manifest, contents = _parts(tiny_archive)
    forged = _forge(tmp_path / "forged", manifest, contents, edit_document=edit)
    _refused(forged, tmp_path / "target")


def _without_measure(document: dict[str, Any]) -> None:
    """Folders in folders, whose paths are a thousand times as long as what is said of them."""
    about = {"kind": "d", "mode": 0, "mtime": 0, "owned": 0}
    document["files"] = rows.to_columns([{"name": "x" * 200, "folder": n, **about} for n in range(2000)], [""])


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_without_measure, "its paths are impossibly long"),
        (lambda document: document.update(surprise=[[]] * 9_000_000), "it has impossibly many values"),
    ],
)
def test_a_manifest_that_would_fill_the_memory_is_refused(
    edit: Edit, said: str, tiny_archive: Path, tmp_path: Path
) -> None:
    manifest, contents = _parts(tiny_archive)
    forged = _forge(tmp_path / "forged", manifest, contents, edit_document=edit)
    assert said in _refused(forged, tmp_path / "target")


@pytest.mark.parametrize(
    "occurrences",
    [
        {"kind": "text", "offsets": [5, 3]},
        {"kind": "text", "offsets": [1 << 40]},
        {"kind": "text", "offsets": [-5]},
        {"kind": "text", "offsets": ["x"]},
        {"kind": "binary", "offsets": [0], "slots": [[0, 60, 0]]},
        {"kind": "binary", "offsets": [900], "slots": [[0, 10, 0]]},
        {"kind": "binary", "offsets": [3], "slots": [[-50, 1000, 0]]},
        {"kind": "binary", "rpaths": [[0, 10, [1, 2], "x"]]},
        {"kind": "binary", "rpaths": [[0, 10, [], "x" * 100]]},
        {"kind": "pyc", "offsets": [0], "strings": [[0, 300, 0]]},
        {"kind": "text", "script": {"interpreter": "bin/python", "arguments": "", "depth": 99}},
        {"kind": "text", "script": {"depth": None}},
        {"kind": "text", "script": [1, 2]},
        {"kind": "unheard of", "offsets": [0]},
        {"kind": "text", "sha256": "0" * 64},
    ],
    ids=repr,
)
def test_consistent_records_of_occurrences_that_are_nonsense_are_refused(
    occurrences: dict[str, Any], tiny_archive: Path, tmp_path: Path
) -> None:
    manifest, contents = _parts(tiny_archive)
    member = _file("bin/x", occurrences=compact(occurrences))
    forged = _forge(tmp_path / "forged", _with(manifest, member), contents | {"bin/x": b"y" * 1000})
    _refused(forged, tmp_path / "target")


def test_relocation_records_must_be_those_of_the_manifest(tiny_archive: Path, tmp_path: Path) -> None:
    manifest, contents = _parts(tiny_archive)
    edit = _set("etc/tool.conf", "occurrences", {"kind": "text", "offsets": [5]})
    forged = _forge(tmp_path / "forged", manifest, contents, edit_document=edit)
    assert "relocation.json" in _refused(forged, tmp_path / "target")


def test_hidden_bytes_are_refused(tiny_archive: Path, tmp_path: Path) -> None:
    """Something in the padding of a member, and a member that the manifest does not list."""
    manifest, contents = _parts(tiny_archive)

    def dirty(file: File) -> bytes:
        before = tarformat.header("bin/extra", "file", 0o644, 0, 0) if file.path == "bin/tool" else b""
        return before + tarformat.header(*_header_of(file))

    assert "more or less" in _refused(_forge(tmp_path / "a", manifest, contents, header=dirty), tmp_path / "x")


def test_a_bomb_is_refused_without_being_unpacked(tiny_archive: Path, tmp_path: Path) -> None:
    """A frame of a kilobyte that decompresses to a gigabyte, in a seek table that denies it."""
    with closing(LocalFile(tiny_archive)) as source:
        _, table = read_tail(source)
    whole = tiny_archive.read_bytes()
    first = table[0]
    bomb = zstandard.ZstdCompressor(19).compress(bytes(1 << 30))
    for claimed in (first.size, 1 << 30):
        entries = [(len(bomb), claimed), *((frame.compressed, frame.size) for frame in table[1:])]
        rest = whole[first.compressed : len(whole) - 8 - 8 * (len(table) + 1) - 9]
        last = len(rest) - sum(frame.compressed for frame in table[1:])
        forged = tmp_path / f"bomb{claimed}"
        forged.write_bytes(bomb + rest + _seek_table([*entries, (last, 0)]))
        _refused(forged, tmp_path / f"target{claimed}")
        assert list((tmp_path / f"target{claimed}").iterdir()) == []


def test_a_manifest_bomb_is_refused(tiny_archive: Path, tmp_path: Path) -> None:
    whole = tiny_archive.read_bytes()
    with closing(LocalFile(tiny_archive)) as source:
        _, table = read_tail(source)
    data = whole[: table[-1].start + table[-1].compressed]
    packed = zstandard.ZstdCompressor(19).compress(b" " * (1 << 30))
    for claimed in (10, 1 << 30, 1 << 60):
        body = struct.pack("<8sIQ32s", b"trainenv", 2, claimed, bytes(32)) + packed
        manifest = struct.pack("<II", 0x184D2A5D, len(body)) + body
        entries = [(frame.compressed, frame.size) for frame in table] + [(len(manifest), 0)]
        forged = tmp_path / f"bomb{claimed}"
        forged.write_bytes(data + manifest + _seek_table(entries))
        _refused(forged, tmp_path / f"target{claimed}")


def _seek_table(entries: list[tuple[int, int]], descriptor: int = 0) -> bytes:
    body = b"".join(struct.pack("<II", *entry) for entry in entries)
    body += struct.pack("<IBI", len(entries), descriptor, 0x8F92EAB1)
    return struct.pack("<II", 0x184D2A5E, len(body)) + body


def test_a_seek_table_of_garbage_is_refused(tiny_archive: Path, tmp_path: Path) -> None:
    with closing(LocalFile(tiny_archive)) as source:
        _, table = read_tail(source)
    whole = tiny_archive.read_bytes()
    data = whole[: len(whole) - 8 - 8 * (len(table) + 1) - 9]
    true = [(frame.compressed, frame.size) for frame in table]
    last = (len(data) - sum(size for size, _ in true), 0)
    tables = [
        _seek_table([]),
        _seek_table(true),
        _seek_table([last, *true]),
        _seek_table([*true, last], descriptor=0x80),
        _seek_table([*true, (last[0] + 1, 0)]),
        _seek_table([*true, (0, 0), last]),
        _seek_table([(true[0][0], true[0][1] + 1), *true[1:], last]),
        _seek_table([(0xFFFFFFFF, 5), *true[1:], last]),
        _seek_table([*true, last])[:8] + struct.pack("<IBI", 0xFFFFFFFF, 0, 0x8F92EAB1),
        os.urandom(200) + struct.pack("<IBI", 20, 0, 0x8F92EAB1),
    ]
    for number, table_bytes in enumerate(tables):
        forged = tmp_path / f"forged{number}"
        forged.write_bytes(data + table_bytes)
        _refused(forged, tmp_path / f"target{number}")
        assert list((tmp_path / f"target{number}").iterdir()) == []

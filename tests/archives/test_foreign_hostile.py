"""Archives of other programs that mean harm, or are damaged: refused with the member named, nothing written."""

from __future__ import annotations

import gzip
import io
import lzma
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from trainenv import Workspace
from trainenv.archives.foreign import members
from trainenv.archives.foreign.members import settled_link
from trainenv.errors import ArchiveError, TrainenvError, UsageError


def tar_of(path: Path, *entries: tarfile.TarInfo, content: bytes = b"x") -> Path:
    """A tar that begins as an environment does and goes on with ``entries``."""
    history = tarfile.TarInfo("conda-meta/history")
    with tarfile.open(path, "w") as tar:
        for entry in (history, *entries):
            entry.size = len(content) if entry.isreg() else 0
            tar.addfile(entry, io.BytesIO(content))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, target, mode
    return made


HOSTILE = {
    "an absolute path": ([entry("/etc/passwd")], "'/etc/passwd'"),
    "a path upward": ([entry("lib/../../x")], "'lib/../../x'"),
    "a link out": ([entry("lib/l", tarfile.SYMTYPE, "../../x")], "the link 'lib/l' leads out"),
    "an absolute link": ([entry("lib/l", tarfile.SYMTYPE, "/etc")], "the link 'lib/l' leads out"),
    "a file below a link": ([entry("l", tarfile.SYMTYPE, "lib"), entry("l/x")], "'l/x' lies below 'l'"),
    "a link through a link": (
        [entry("lib/l", tarfile.SYMTYPE, "deep"), entry("m", tarfile.SYMTYPE, "lib/l/../../x")],
        "through another link",
    ),
    "a hard link out": ([entry("h", tarfile.LNKTYPE, "/etc/passwd")], "'/etc/passwd'"),
    "a hard link to a link": (
        [entry("l", tarfile.SYMTYPE, "conda-meta/history"), entry("h", tarfile.LNKTYPE, "l")],
        "'h' is a hard link",
    ),
    "a device": ([entry("dev/null", tarfile.CHRTYPE)], "'dev/null' is neither"),
    "a pipe": ([entry("pipe", tarfile.FIFOTYPE)], "'pipe' is neither"),
    "a setuid program": ([entry("bin/su", mode=0o4755)], "'bin/su' would run with"),
    "a name twice": ([entry("lib/x"), entry("lib/x")], "'lib/x' twice"),
    "a file for a folder": ([entry("lib/x"), entry("lib")], "'lib' twice"),
    "a long name": ([entry("lib/" + "n" * 300)], "too long a name"),
}


@pytest.fixture
def refused(workspace: Workspace) -> Callable[..., str]:
    """Tries ``unpack`` and ``inspect``; returns what both say, after a look at what they left behind."""

    def attempt(archive: Path, also_inspect: bool = True) -> str:
        with pytest.raises(ArchiveError) as error:
            workspace.unpack(archive, "bad")
        said = str(error.value)
        if also_inspect:
            with pytest.raises(ArchiveError):
                workspace.inspect(archive)
        envs = workspace.settings.envs_dir
        assert not (envs / "bad").exists()
        assert [path for path in (envs / ".trainenv/staging").iterdir() if path.name != ".guard"] == []
        return said

    return attempt


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_member_is_named(what: str, refused: Callable[..., str], tmp_path: Path) -> None:
    entries, named = HOSTILE[what]
    archive = tar_of(tmp_path / "bad.tar", *entries)
    assert named in refused(archive, also_inspect="link" not in what or "hard" in what or "below" in what)


def test_hostile_zips(refused: Callable[..., str], tmp_path: Path) -> None:
    for name, attributes, named in (
        ("../up", 0o644, "'../up'"),
        ("bin/su", stat.S_IFREG | 0o4755, "'bin/su' would run"),
        ("dev/null", stat.S_IFCHR | 0o644, "'dev/null' is neither"),
    ):
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as made:
            made.writestr("conda-meta/history", "")
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, attributes << 16
            made.writestr(info, "x")
        assert named in refused(tmp_path / "bad.zip")


def test_a_hostile_image(refused: Callable[..., str], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "conda-meta").mkdir(parents=True)
    (tree / "conda-meta/history").touch()
    for name, mode, named in (("su", 0o4755, "'su' would run"), ("new\nline", 0o644, "no entry of an environment")):
        (tree / name).write_text("x")
        (tree / name).chmod(mode)
        image = tmp_path / "bad.squashfs"
        subprocess.run(["mksquashfs", tree, image, "-noappend", "-quiet", "-no-progress"], check=True)
        assert named in refused(image)
        (tree / name).unlink()


def test_a_bomb_is_stopped(refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "_HARMLESS_BYTES", 1 << 20)
    tar = tar_of(tmp_path / "plain.tar", entry("lib/zeros"), content=bytes(8 << 20))
    for name, compress in (("bad.tar.gz", gzip.compress), ("bad.tar.xz", lzma.compress)):
        (tmp_path / name).write_bytes(compress(tar.read_bytes()))
        assert "unpacks to more than 200 times" in refused(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.write(tar, "zeros")
    assert "unpacks to more than 200 times" in refused(tmp_path / "bad.zip")


def test_a_header_that_asks_for_memory_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    archive = tmp_path / "bad.tar"
    long = tarfile.TarInfo("x")
    long.type, long.size = tarfile.XHDTYPE, 1 << 30
    archive.write_bytes(tar_of(archive).read_bytes()[:1024] + long.tobuf() + bytes(4 << 20))
    assert "a header of an impossible length" in refused(archive)


def test_cut_anywhere_and_with_any_bit_flipped_it_is_refused_or_whole(workspace: Workspace, tmp_path: Path) -> None:
    """No crash and nothing outside, whatever the bytes are: each form cut, and flipped, at many places."""
    tar = tar_of(tmp_path / "good.tar", entry("lib/a"), entry("lib/l", tarfile.SYMTYPE, "a"), content=b"text" * 200)
    with zipfile.ZipFile(tmp_path / "good.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("conda-meta/history", "")
        made.writestr("lib/a", "text" * 200)
    forms = {"tar": tar.read_bytes(), "zip": (tmp_path / "good.zip").read_bytes()}
    forms |= {"tar.gz": gzip.compress(forms["tar"], mtime=0), "tar.xz": lzma.compress(forms["tar"])}
    for form, good in forms.items():
        archive = tmp_path / f"bad.{form}"
        for place in range(1, len(good), max(1, len(good) // 60)):
            flipped = bytearray(good)
            flipped[place] ^= 1 << place % 8
            for data in (good[:place], bytes(flipped)):
                archive.write_bytes(data)
                try:
                    workspace.inspect(archive)
                    cut_in_padding = form == "tar" and place > len(good) - 10240 and not good[place:].strip(b"\0")
                    assert len(data) == len(good) or cut_in_padding, (form, place)
                except TrainenvError:
                    pass


def test_what_is_no_environment_says_so(workspace: Workspace, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        tar.addfile(entry("README"))
    with pytest.raises(ArchiveError, match="holds no environment: it has no conda-meta folder"):
        workspace.unpack(tmp_path / "some.tar")
    installer = tmp_path / "some.sh"
    installer.write_bytes(b"#!/bin/sh\n#\n# Created by constructor 3.11\n#\n# NAME:  some\n# PLAT:  linux-64\n\x7fELF")
    with pytest.raises(ArchiveError, match="it is an installer, as constructor makes them"):
        workspace.unpack(installer)


def test_a_file_name_that_can_name_no_environment_asks_for_one(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Give one with -n NAME"):
        workspace.unpack(tar_of(tmp_path / "my env.tar"))


def test_an_environment_of_another_system_is_refused_before_it_is_there(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    record = b'{"name": "zlib", "version": "1", "build": "0", "subdir": "osx-arm64", "files": []}'
    archive = tar_of(tmp_path / "mac.tar", entry("conda-meta/zlib-1-0.json"), content=record)
    assert "osx on arm64" in refused(archive, also_inspect=False)


def test_links_are_settled_inside() -> None:
    kinds = {"lib": "folder", "lib/deep": "folder", "lib/l": "link"}
    assert settled_link("bin/x", "/old/env/lib/y", kinds, ("/old/env",)) == "../lib/y"
    assert settled_link("x", "/old/env", kinds, ("/old/env",)) == "."
    assert settled_link("lib/x", "deep/../y", kinds, ()) == "y"
    with pytest.raises(ValueError, match="leads out"):
        settled_link("bin/x", "/old/environment/y", kinds, ("/old/env",))
    with pytest.raises(ValueError, match="through another link"):
        settled_link("lib/x", "l/../y", kinds, ())

"""What an environment here has already is linked, not written again; and only what is really the same."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.archives.conftest import make_prefix, pack, snapshot
from trainenv import Workspace, archives
from trainenv.archives import reading
from trainenv.archives.placing import Writer
from trainenv.environments import content_index, staging
from trainenv.errors import RelocationError
from trainenv.progress import SilentReporter

PLAIN = "lib/python3/site-packages/pkg/plain.py"
NOISE = "share/noise.bin"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small environment with a file that fills frames of its own."""
    prefix = make_prefix(tmp_path_factory.mktemp("packed") / "chat")
    (prefix / NOISE).write_bytes(os.urandom(9 << 20))
    return pack(prefix, prefix.parent / "chat.tar.zst").path


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """A workspace with a cache, and so an index, of its own."""
    (tmp_path / "workspace").mkdir()
    return Workspace(tmp_path / "workspace")


def _unpack(place: Workspace, archive: Path, name: str) -> Path:
    archives.unpack_environment(place.settings, archive, name=name, reporter=SilentReporter())
    return place.settings.prefix_of(name)


def _linked(one: Path, other: Path) -> set[str]:
    """The files of ``one`` that are files of ``other`` as well."""
    return {
        str(file.relative_to(one))
        for file in one.rglob("*")
        if file.is_file() and not file.is_symlink()
        for twin in [other / file.relative_to(one)]
        if twin.is_file() and twin.samefile(file)
    }


def _packed(prefix: Path) -> bytes:
    """The bytes of its archive: what it holds, whatever its prefix is."""
    archive = pack(prefix, prefix.parent / f"{prefix.name}.tar.zst").path
    try:
        return archive.read_bytes()
    finally:
        archive.unlink()


def test_a_sibling_shares_all_that_does_not_hold_the_prefix(place: Workspace, archive: Path) -> None:
    first, second = _unpack(place, archive, "first"), _unpack(place, archive, "second")
    linked = _linked(second, first)
    assert {PLAIN, NOISE, "bin/python"} <= linked
    assert _packed(second) == archive.read_bytes()
    assert not {path for path in linked if "first" in (first / path).read_text(errors="replace")}


def test_what_tools_write_into_is_not_shared(place: Workspace, archive: Path) -> None:
    linked = _linked(_unpack(place, archive, "second"), _unpack(place, archive, "first"))
    assert not [path for path in linked if path.startswith(("conda-meta/", "etc/")) or ".dist-info/" in path]


def _in_place(file: Path) -> None:
    """Another byte, the same size and time: what no look at the file's times finds."""
    status = file.stat()
    with file.open("r+b") as stream:
        byte = stream.read(1)
        stream.seek(0)
        stream.write(bytes([byte[0] ^ 1]))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def _other_time(file: Path) -> None:
    os.utime(file, (1, 1))


def _other_mode(file: Path) -> None:
    file.chmod(0o600)


def _a_link(file: Path) -> None:
    moved = file.with_name("moved")
    file.rename(moved)
    file.symlink_to(moved)


def _a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _gone(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("change", [_in_place, _other_time, _other_mode, _a_link, _a_folder, _gone])
@pytest.mark.parametrize("path", [PLAIN, NOISE])
def test_what_was_changed_here_comes_from_the_archive(
    place: Workspace, archive: Path, change: Callable[[Path], None], path: str
) -> None:
    first = _unpack(place, archive, "first")
    change(first / path)
    second = _unpack(place, archive, "second")
    assert path not in _linked(second, first)
    assert _packed(second) == archive.read_bytes()


@pytest.mark.parametrize("change", [lambda file: file.write_bytes(b"x" * file.stat().st_size), _gone])
def test_what_changes_while_it_is_linked_comes_from_the_archive(
    place: Workspace, archive: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    first = _unpack(place, archive, "first")
    link = Writer.link

    def late(writer: Writer, member: archives.File, *found: object) -> bool:
        if member.path in (PLAIN, NOISE):
            change(first / member.path)
        return link(writer, member, *found)  # type: ignore[arg-type]

    monkeypatch.setattr(Writer, "link", late)
    second = _unpack(place, archive, "second")
    assert not {PLAIN, NOISE} & _linked(second, first)
    assert _packed(second) == archive.read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_file_of_another_user_is_written_again(place: Workspace, archive: Path) -> None:
    first = _unpack(place, archive, "first")
    os.chown(first / PLAIN, 65534, 65534)
    second = _unpack(place, archive, "second")
    assert PLAIN not in _linked(second, first)
    assert NOISE in _linked(second, first)


def test_a_known_file_is_not_read_again_and_its_frame_neither(place: Workspace, archive: Path) -> None:
    _unpack(place, archive, "first")
    damaged = bytearray(archive.read_bytes())
    manifest = archives.read_manifest(archive)
    with reading.opened(archive) as (_, _, frames):
        victim = next(file for file in manifest.files if file.path == NOISE)
        damaged[frames[reading.frames_of(manifest.files, [victim], frames)[0]].start + 100] ^= 0xFF
    copy = archive.with_name("damaged.tar.zst")
    copy.write_bytes(damaged)
    second = _unpack(place, copy, "second")
    assert _packed(second) == archive.read_bytes()
    copy.unlink()


def test_what_is_known_stays_known_when_links_to_it_come_and_go(
    place: Workspace, archive: Path, tmp_path: Path
) -> None:
    """Whoever clones, changes or replaces an environment gives its files another ctime."""
    first = _unpack(place, archive, "first")
    for _ in range(place.settings.generations + 2):
        reporter = SilentReporter()
        archives.unpack_environment(place.settings, archive, name="first", replaces=True, reporter=reporter)
    place.clone(place.environment("first"), "second")
    place.rename("second", "third")
    with staging.staged(place.settings, "first", replaces=True) as changing:
        (changing.path / PLAIN).unlink()
    with content_index.ContentIndex(place.settings.cache_dir) as index:
        assert index.sha256((first / NOISE).stat()) == hashlib.sha256((first / NOISE).read_bytes()).hexdigest()
    with content_index.still_known(place.settings.cache_dir, first):
        (first / NOISE).write_bytes(os.urandom(9 << 20))
        os.link(first / NOISE, tmp_path / "link")
    with content_index.ContentIndex(place.settings.cache_dir) as index:
        assert index.sha256((first / NOISE).stat()) is None


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + b"x" * 5000, b"no database"])
def test_an_index_that_is_broken_is_begun_anew(place: Workspace, archive: Path, content: bytes) -> None:
    first = _unpack(place, archive, "first")
    file = place.settings.cache_dir / "contents.sqlite"
    file.write_bytes(content)
    second = _unpack(place, archive, "second")
    assert NOISE in _linked(second, first)
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM contents").fetchone()[0] > 5


def test_an_index_that_lies_under_a_lock_is_done_without(
    place: Workspace, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainenv.environments.content_index._WAIT_SECONDS", 0.05)
    first = _unpack(place, archive, "first")
    other = sqlite3.connect(place.settings.cache_dir / "contents.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert NOISE in _linked(_unpack(place, archive, "second"), first)
    other.close()


def test_inspect_says_how_much_is_new_here(place: Workspace, archive: Path) -> None:
    manifest = archives.read_manifest(archive)
    files = [file for file in manifest.files if file.kind == "file" and not file.is_tool]
    origins = place.origins(place.inspect(archive))
    assert origins is not None
    assert (origins.new_files, origins.new_bytes) == (len(files), sum(file.size for file in files))
    first, second = _unpack(place, archive, "first"), _unpack(place, archive, "second")
    origins = place.origins(place.inspect(archive))
    assert origins is not None
    assert origins.new_files == len(files) - len(_linked(second, first))
    assert origins.new_bytes < 20 << 20


def test_inspect_also_shows_what_does_not_fit_here(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "trainenv.toml").write_text(f'visible_as = "/{"x" * 600}"\n')
    place = Workspace(tmp_path)
    origins = place.origins(place.inspect(archive))
    assert origins is not None
    assert origins.new_files > 0
    with pytest.raises(RelocationError):
        place.unpack(archive)


def test_the_same_wheel_for_another_python_is_shared(place: Workspace, tmp_path: Path) -> None:
    prefix = tmp_path / "source" / "chat"
    for python in ("python3.10", "python3.11"):
        folder = prefix / "lib" / python / "site-packages"
        (folder / "pkg-1.0.dist-info").mkdir(parents=True)
        (folder / "pkg.py").write_text("x = 1\n" * 100)
        os.utime(folder / "pkg.py", (1_600_000_000, 1_600_000_000))
        (folder / "pkg-1.0.dist-info" / "RECORD").write_text("pkg.py,,\n")
        (prefix / "conda-meta").mkdir()
        (prefix / "conda-meta" / "history").touch()
        pack(prefix, tmp_path / f"{python}.tar.zst")
        shutil.rmtree(prefix)
    first = _unpack(place, tmp_path / "python3.10.tar.zst", "ten")
    second = _unpack(place, tmp_path / "python3.11.tar.zst", "eleven")
    shared = "site-packages/pkg.py"
    assert (first / "lib/python3.10" / shared).samefile(second / "lib/python3.11" / shared)


def test_snapshots_of_siblings_differ_by_their_prefix_alone(place: Workspace, archive: Path) -> None:
    first, second = snapshot(_unpack(place, archive, "same1")), snapshot(_unpack(place, archive, "same2"))
    assert first.keys() == second.keys()
    assert {path: entry[:3] for path, entry in first.items()} == {path: entry[:3] for path, entry in second.items()}

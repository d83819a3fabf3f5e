"""A delta holds what the other side lacks; there it becomes the very environment that a whole archive would."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.archives.conftest import BIG_BINARY, extract, make_prefix, pack, snapshot, unpack
from tests.archives.rows import Row
from tests.archives.test_damage import Edit, _forge, _on_rows, _parts, _set
from tests.conftest import RunCommand
from trainenv import Workspace, archives, locks
from trainenv.archives import holding, machine, packing, reading
from trainenv.archives.delta import DIGITS, of_manifests
from trainenv.archives.manifest import Manifest
from trainenv.archives.members import DELTA_NOTE
from trainenv.environments.content_index import ContentIndex
from trainenv.errors import ArchiveError, UsageError
from trainenv.progress import SilentReporter

PLAIN = "lib/python3/site-packages/pkg/plain.py"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of an environment as it was."""
    before = make_prefix(tmp_path_factory.mktemp("before") / "chat")
    return pack(before, before.parent / "first.tar.zst", name="first").path


@pytest.fixture(scope="module")
def after(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment after a change of one package; not to be changed."""
    prefix = tmp_path_factory.mktemp("after") / "chat"
    unpack(first, prefix)
    (prefix / "lib/python3.1/site-packages/dist.py").write_text("x = 2\n")
    (prefix / "lib/python3.1/site-packages/more.py").write_text(f"HOME = {str(prefix)!r}\n" * 50)
    (prefix / "share/up").unlink()
    return prefix


@pytest.fixture(scope="module")
def whole(after: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(after, tmp_path_factory.mktemp("whole") / "whole.tar.zst").path


@pytest.fixture(scope="module")
def delta(after: Path, first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    against = machine.other_side(first)
    return pack(after, tmp_path_factory.mktemp("delta") / "chat.delta.tar.zst", against=against).path


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """A workspace with a cache, and so an index, of its own."""
    (tmp_path / "workspace").mkdir()
    return Workspace(tmp_path / "workspace")


def _unpack(place: Workspace, archive: Path, name: str, *others: Path) -> Path:
    archives.unpack_environment(place.settings, archive, name=name, others=others, reporter=SilentReporter())
    return place.settings.prefix_of(name)


def _packed(prefix: Path) -> bytes:
    archive = pack(prefix, prefix.parent / f"{prefix.name}.tar.zst").path
    try:
        return archive.read_bytes()
    finally:
        archive.unlink()


def test_it_holds_what_is_new_and_lists_the_rest(delta: Path, first: Path, whole: Path) -> None:
    manifest, complete = archives.read_manifest(delta), archives.read_manifest(whole)
    present = {file.path for file in manifest.files if file.kind == "file" and not file.absent and not file.is_tool}
    assert "conda-meta/trainenv/relocation.json" not in present
    assert {"lib/python3.1/site-packages/dist.py", "lib/python3.1/site-packages/more.py"} <= present
    assert not {PLAIN, BIG_BINARY, "bin/tool", "etc/tool.conf"} & present
    assert [file.path for file in manifest.files if file.path != DELTA_NOTE] == [file.path for file in complete.files]
    assert delta.stat().st_size < first.stat().st_size / 20
    assert archives.verify_archive(delta) == manifest


def test_the_rest_comes_from_an_environment_here(place: Workspace, first: Path, delta: Path, whole: Path) -> None:
    there = _unpack(place, first, "first")
    made = _unpack(place, delta, "second")
    assert _packed(made) == whole.read_bytes()
    assert (made / PLAIN).samefile(there / PLAIN)
    assert subprocess.check_output([made / "bin/tool", "x"], text=True) == "tool x\n"


@pytest.mark.parametrize("is_unpacked", [True, False])
def test_what_a_machine_says_that_it_holds_is_what_a_delta_would_leave_out(
    place: Workspace, first: Path, tmp_path: Path, is_unpacked: bool
) -> None:
    """Also when nothing of it is read again, as the index knows it, and not what was changed since."""
    prefix = _unpack(place, first, "one") if is_unpacked else make_prefix(tmp_path / "made")
    with ContentIndex(place.settings.cache_dir) as index:
        listed = of_manifests([packing.describe(prefix, "one", ContentIndex(None), SilentReporter())]).contents
        for _ in range(2):
            assert listed <= {digest[:DIGITS] for digest in holding.held(prefix, index)}
        (prefix / PLAIN).write_text("changed\n")
        (prefix / "bin/tool").unlink()
        left = {digest[:DIGITS] for digest in holding.held(prefix, index)}
    gone = {file.sha256[:DIGITS] for file in archives.read_manifest(first).files if file.path in (PLAIN, "bin/tool")}
    assert listed - left == gone


def test_the_rest_comes_from_an_archive_that_is_named(place: Workspace, first: Path, delta: Path, whole: Path) -> None:
    assert _packed(_unpack(place, delta, "second", first)) == whole.read_bytes()


def test_the_rest_is_found_wherever_it_lies(place: Workspace, first: Path, delta: Path, whole: Path) -> None:
    """Other times, other modes, other names, spread over environments."""
    one, other = _unpack(place, first, "one"), _unpack(place, first, "other")
    (one / PLAIN).unlink()
    (other / PLAIN).rename(other / "share/elsewhere")
    (one / "bin/python").chmod(0o700)
    os.utime(one / BIG_BINARY, (5, 5))
    (other / BIG_BINARY).unlink()
    assert _packed(_unpack(place, delta, "second")) == whole.read_bytes()


def test_what_is_nowhere_is_named_before_anything_is_written(place: Workspace, first: Path, delta: Path) -> None:
    there = _unpack(place, first, "first")
    with (there / PLAIN).open("r+b") as file:
        file.write(b"#")
    (there / "etc/tool.conf").write_text("edited\n")
    with pytest.raises(ArchiveError) as caught:
        _unpack(place, delta, "second")
    assert "2 files that it builds on can't be found here" in str(caught.value)
    assert "Unpack first first" in str(caught.value)
    assert set(caught.value.details) == {PLAIN, "etc/tool.conf of tool"}
    assert not place.settings.prefix_of("second").exists()
    assert list((place.settings.envs_dir / ".trainenv" / "staging").glob("second-*")) == []
    origins = place.origins(place.inspect(delta))
    assert origins is not None
    assert {file.path for file in origins.missing} == {PLAIN, "etc/tool.conf"}
    assert _unpack(place, delta, "second", first).exists()


@pytest.mark.parametrize("form", ["tar.gz", "squashfs", "folder", "self-extracting"])
def test_what_was_sent_before_may_be_of_any_format(
    form: str, after: Path, first: Path, delta: Path, tmp_path: Path
) -> None:
    unpack(first, tmp_path / "before")
    options: dict[str, object] = {"self_extracting": True} if form == "self-extracting" else {"format": form}
    before = pack(tmp_path / "before", tmp_path / "sent", name="first", **options).path
    made = pack(after, tmp_path / "d.tar.zst", against=machine.other_side(before))
    assert made.path.read_bytes() == delta.read_bytes()


def test_a_delta_of_a_delta(place: Workspace, after: Path, first: Path, delta: Path, tmp_path: Path) -> None:
    third = tmp_path / "chat"
    shutil.copytree(after, third, symlinks=True)
    (third / "share/third").write_text("3\n")
    newest = pack(third, tmp_path / "n.tar.zst", against=machine.other_side(delta)).path
    _unpack(place, first, "first")
    _unpack(place, delta, "second")
    expected = pack(third, tmp_path / "w.tar.zst").path.read_bytes()
    assert _packed(_unpack(place, newest, "third")) == expected


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_other_formats_can_be_deltas(
    place: Workspace, after: Path, first: Path, whole: Path, tmp_path: Path, ending: str
) -> None:
    small = pack(after, tmp_path / f"d{ending}", against=machine.other_side(first)).path
    assert _packed(_unpack(place, small, "second", first)) == whole.read_bytes()


def test_the_same_delta_wherever_it_is_made_and_whatever_is_known(
    place: Workspace, after: Path, first: Path, delta: Path, tmp_path: Path
) -> None:
    against = machine.other_side(first)
    choice = archives.Choice(settings=place.settings)
    for number in range(2):
        again = pack(after, tmp_path / f"{number}.tar.zst", against=against, choice=choice, threads=1 + number).path
        assert again.read_bytes() == delta.read_bytes()


def test_who_has_only_tar_is_told(delta: Path, tmp_path: Path) -> None:
    with tarfile.open(fileobj=zstandard.ZstdDecompressor().stream_reader(delta.open("rb")), mode="r|") as tar:
        names = [member.name for member in tar if member.isfile()]
    assert names[0] == DELTA_NOTE
    prefix = extract(delta, tmp_path / "p")
    assert "trainenv unpack" in (prefix / DELTA_NOTE).read_text()
    done = subprocess.run([prefix / "bin/conda-unpack"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert DELTA_NOTE in done.stderr


def test_a_damaged_file_in_the_archive_that_is_named(
    place: Workspace, first: Path, delta: Path, tmp_path: Path
) -> None:
    broken = bytearray(first.read_bytes())
    manifest = archives.read_manifest(first)
    with reading.opened(first) as (_, _, frames):
        victim = next(file for file in manifest.files if file.path == BIG_BINARY)
        broken[frames[reading.frames_of(manifest.files, [victim], frames)[0]].start + 2000] ^= 1
    (tmp_path / "broken").write_bytes(broken)
    with pytest.raises(ArchiveError, match="broken is damaged"):
        _unpack(place, delta, "second", tmp_path / "broken")
    assert not place.settings.prefix_of("second").exists()


UNPACK = """
import sys
from pathlib import Path
from trainenv import archives, settings
from trainenv.progress import SilentReporter
place = settings.load(sys.argv[1])
archives.unpack_environment(place, Path(sys.argv[2]), name=sys.argv[3], reporter=SilentReporter())
"""


def _unpacking(place: Workspace, archive: Path, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", UNPACK, str(place.settings.root), str(archive), name])


def test_killed_at_any_moment_it_is_whole_or_absent_and_its_base_unharmed(
    place: Workspace, first: Path, delta: Path, whole: Path
) -> None:
    there = _unpack(place, first, "first")
    before = snapshot(there)
    begun = time.monotonic()
    assert _unpacking(place, delta, "whole").wait() == 0
    seconds = time.monotonic() - begun
    for point in range(8):
        process = _unpacking(place, delta, f"killed{point}")
        try:
            process.wait(seconds * (0.4 + 0.6 * point / 8))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        made = place.settings.prefix_of(f"killed{point}")
        assert not made.exists() or _packed(made) == whole.read_bytes()
    assert snapshot(there) == before
    assert _packed(_unpack(place, delta, "again")) == whole.read_bytes()
    assert list((place.settings.envs_dir / ".trainenv" / "staging").glob("*-*")) == []


def test_several_at_once_link_to_the_same_files(place: Workspace, first: Path, delta: Path, whole: Path) -> None:
    there = _unpack(place, first, "first")
    processes = [_unpacking(place, delta, f"at_once{number}") for number in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    for number in range(4):
        made = place.settings.prefix_of(f"at_once{number}")
        assert (made / PLAIN).samefile(there / PLAIN)
        assert _packed(made) == whole.read_bytes()


def test_an_environment_that_is_being_changed_gives_nothing(place: Workspace, first: Path, delta: Path) -> None:
    _unpack(place, first, "first")
    with locks.exclusive(place.settings, "first"), pytest.raises(ArchiveError, match="can't be found here"):
        _unpack(place, delta, "second")


# Manifests of machines


def test_the_manifest_of_a_machine_is_small_and_serves(
    place: Workspace, after: Path, first: Path, delta: Path, whole: Path, trainenv: RunCommand, tmp_path: Path
) -> None:
    _unpack(place, first, "first")
    file = tmp_path / "b.manifest"
    done = trainenv(place, "env", "manifest", "-o", str(file))
    assert done.returncode == 0, done.stderr
    assert "1 environment, " in done.stdout
    again = subprocess.run(
        [*_program(place), "env", "manifest", "-n", "first"], stdout=subprocess.PIPE, check=True
    ).stdout
    assert again == file.read_bytes()
    assert file.stat().st_size < 2000
    made = pack(after, tmp_path / "d.tar.zst", against=machine.other_side(file))
    assert made.path.read_bytes() == delta.read_bytes()


def _program(place: Workspace) -> list[str]:
    from tests.conftest import program

    return program(place)


def test_the_manifest_as_json_lists_what_an_archive_would(place: Workspace, first: Path, trainenv: RunCommand) -> None:
    _unpack(place, first, "first")
    done = trainenv(place, "env", "manifest", "--json")
    (shown,) = json.loads(done.stdout)
    expected = {
        file.path: (file.kind, file.mode, file.size, file.sha256, file.target)
        for file in archives.read_manifest(first).files
        if not file.is_tool and file.path != "conda-meta/trainenv/relocation.json"
    }
    assert expected == {
        file["path"]: (file["kind"], file["mode"], file.get("size", 0), file.get("sha256", ""), file.get("target", ""))
        for file in shown["files"]
    }
    assert shown["name"] == "first"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        zstandard.compress(b"{}"),
        zstandard.compress(b"[" * 100_000),
        zstandard.compress(b'{"manifest":1,"environments":[],"contents":"xyz"}'),
        zstandard.compress(b'{"manifest":1,"environments":[{}],"contents":""}'),
        zstandard.compress(bytes(300 << 20)),
    ],
)
def test_what_is_no_manifest_is_said_to_be_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UsageError, match="neither an archive nor a manifest"):
        machine.other_side(tmp_path / "file")
    with pytest.raises(UsageError):
        machine.other_side(tmp_path / "missing")


# Hostile ones


def _first_absent(by_path: dict[str, Row]) -> Row:
    return next(row for row in by_path.values() if row["kind"] == "a" and "occurrences" not in row)


def _of_first_absent(field: str, value: Any) -> Edit:
    return _on_rows(lambda _, by_path: _first_absent(by_path).update({field: value}))


def _other_proof(document: dict[str, Any]) -> None:
    document["against"]["sha256"] = "0" * 64


def _no_against(document: dict[str, Any]) -> None:
    del document["against"]


def _bad_names(document: dict[str, Any]) -> None:
    document["against"]["names"] = [1]


FORGERIES: dict[str, Edit] = {
    "another content": _of_first_absent("sha256", "0" * 8),
    "more digits than there may be": _of_first_absent("sha256", "0" * 64),
    "outside": _of_first_absent("name", ".."),
    "huge": _of_first_absent("size", 1 << 61),
    "too large": _of_first_absent("size", 1 << 62),
    "an absent folder": _on_rows(lambda members, _: members[0].update(kind="a", size=0, sha256="0" * 8)),
    "fewer digits in the tar": _on_rows(lambda _, by_path: by_path[DELTA_NOTE].update(sha256="0" * 8)),
    "absent and in the tar": _on_rows(lambda _, by_path: _first_absent(by_path).update(kind="f", sha256="0" * 64)),
    "relocation.json in the tar": _set("conda-meta/trainenv/relocation.json", "kind", "f"),
    "relocation.json absent": _on_rows(
        lambda _, by_path: by_path["conda-meta/trainenv/relocation.json"].update(kind="a", sha256="0" * 8)
    ),
    "another relocation.json": _set("conda-meta/trainenv/relocation.json", "sha256", "0" * 64),
    "a relocation.json of another size": _set("conda-meta/trainenv/relocation.json", "size", 5),
    "a relocation.json of a package": _set("conda-meta/trainenv/relocation.json", "owned", 0),
    "more made of the manifest": _on_rows(lambda _, by_path: _first_absent(by_path).update(kind="m", sha256="0" * 64)),
    "an absent tool": _on_rows(lambda _, by_path: by_path["bin/conda-unpack"].update(kind="a", sha256="0" * 8)),
    "another proof": _other_proof,
    "no proof": _no_against,
    "bad names": _bad_names,
}


@pytest.mark.parametrize("edit", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_delta_is_refused(place: Workspace, first: Path, delta: Path, tmp_path: Path, edit: Edit) -> None:
    _unpack(place, first, "first")
    manifest, contents = _parts(delta)
    forged = tmp_path / "forged.tar.zst"
    _forge(forged, manifest, contents, edit_document=edit)
    listing = {path: path.lstat().st_mode for path in sorted(tmp_path.rglob("*"))}
    with pytest.raises(ArchiveError):
        _unpack(place, forged, "second")
    assert not place.settings.prefix_of("second").exists()
    now = {path for path in tmp_path.rglob("*") if ".trainenv" not in path.parts and "cache" not in path.parts}
    assert now <= listing.keys()


def test_flipped_bits_never_give_another_environment(
    place: Workspace, first: Path, delta: Path, whole: Path, tmp_path: Path
) -> None:
    _unpack(place, first, "first")
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    content = delta.read_bytes()
    refused = 0
    for number in range(25):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (tmp_path / "flipped").write_bytes(changed)
        try:
            made = _unpack(place, tmp_path / "flipped", f"flipped{number}")
        except ArchiveError:
            refused += 1
        else:
            assert _packed(made) == whole.read_bytes()
    assert refused > 18


def test_the_other_side_counts_no_tools(first: Path) -> None:
    manifest: Manifest = archives.read_manifest(first)
    there = of_manifests([manifest])
    assert not any(there.has(file.sha256, file.size) for file in manifest.files if file.is_tool)

"""What is packed: filters, ``--strip``, links that lead out, paths of this machine; and what verify says after."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import support
from tests.archives.conftest import make_prefix, pack, snapshot, unpack
from tests.conftest import MakeWorkspace, RunCommand
from trainenv import archives, locks
from trainenv.archives import Choice, Filter
from trainenv.environments.contents import inspect
from trainenv.errors import ArchiveError, EnvironmentBusyError
from trainenv.progress import SilentReporter

SITE = "lib/python3.1/site-packages"


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A prefix with tests, headers, bytecode, and records that name all of them."""
    prefix = make_prefix(tmp_path / "machine_a" / "chat")
    shutil.rmtree(prefix / "share")
    texts = {
        f"{SITE}/pkg/__init__.py": "from .tests.runner import run\n",
        f"{SITE}/pkg/tests/__init__.py": "",
        f"{SITE}/pkg/tests/runner.py": "def run(): ...\n",
        f"{SITE}/pkg/tests/test_pkg.py": "",
        f"{SITE}/other/__init__.py": "def test():\n    from .tests import test_other\n",
        f"{SITE}/other/tests/test_other.py": "",
        f"{SITE}/other/tests/data/table.csv": "1\n",
        f"{SITE}/api/test/__init__.py": "class Client: ...\n",
        "lib/python3.1/test/test_sys.py": "",
        "include/tool/a.h": "",
        "include/tool/b.h": "",
        "lib/libtool.a": "!<arch>\n",
        "lib/model.a": "no static library\n",
    }
    for path, text in texts.items():
        (prefix / path).parent.mkdir(parents=True, exist_ok=True)
        (prefix / path).write_text(text)
    (prefix / "lib/libalias.a").symlink_to("libtool.a")
    file = prefix / "conda-meta/tool-1.0-0.json"
    record = json.loads(file.read_text())
    present = [path for path in record["files"] if (prefix / path).exists()]
    record["files"] = [*present, *texts, "lib/libalias.a"]
    entries = [entry for entry in record["paths_data"]["paths"] if entry["_path"] in present]
    entries += [{"_path": path, "path_type": "hardlink"} for path in (*texts, "lib/libalias.a")]
    record["paths_data"]["paths"] = entries
    file.write_text(json.dumps(record))
    return prefix


def _packed(prefix: Path, output: Path, *filters: Filter, strip: bool = False) -> set[str]:
    archive = pack(prefix, output, choice=Choice(filters, strip=strip))
    return {file.path for file in archive.manifest.files}


def _missing(prefix: Path) -> list[str]:
    """What ``env verify`` misses."""
    reporter = SilentReporter()
    with reporter.step("check") as step:
        found = inspect(prefix, banned=[], step=step)
    return [damage.path for damage in found.damage if damage.what == "is missing"]


def test_filters_act_in_their_order(prefix: Path, tmp_path: Path) -> None:
    packed = _packed(prefix, tmp_path / "1", ("exclude", "*.h"), ("include", "include/tool/b.h"))
    assert "include/tool/a.h" not in packed
    assert "include/tool/b.h" in packed
    packed = _packed(prefix, tmp_path / "2", ("include", "include/tool/b.h"), ("exclude", "./include/"))
    assert {"include", "include/tool", "include/tool/b.h"}.isdisjoint(packed)


def test_with_a_file_go_its_bytecode_and_the_links_to_it(prefix: Path, tmp_path: Path) -> None:
    packed = _packed(prefix, tmp_path / "1", ("exclude", "*/pkg/plain.py"), ("exclude", "lib/libtool.a"))
    assert any(path.startswith("lib/python3/site-packages/pkg/__pycache__/__init__.") for path in packed)
    assert not any("/__pycache__/plain." in path for path in packed)
    assert "lib/libalias.a" not in packed


def test_what_says_which_packages_there_are_stays(prefix: Path, tmp_path: Path) -> None:
    everything = _packed(prefix, tmp_path / "1", ("exclude", "*"))
    assert {path for path in everything if path.endswith((".json", "METADATA", "RECORD", "history"))} == {
        "conda-meta/history",
        "conda-meta/tool-1.0-0.json",
        "conda-meta/trainenv/left_out.json",
        "conda-meta/trainenv/relocation.json",
        f"{SITE}/dist-1.0.dist-info/METADATA",
        f"{SITE}/dist-1.0.dist-info/RECORD",
    }
    unpack(tmp_path / "1", tmp_path / "b")
    assert _missing(tmp_path / "b") == []


def test_a_pattern_for_nothing_is_told(prefix: Path, tmp_path: Path) -> None:
    reporter = SilentReporter()
    pack(prefix, tmp_path / "1", choice=Choice([("exclude", "*.nothing")]), reporter=reporter)
    assert "--exclude *.nothing matches nothing" in reporter.notices


def test_strip_leaves_what_code_needs(prefix: Path, tmp_path: Path) -> None:
    """Tests that a module imports as it is imported stay, as does a ``test`` package without a test in it."""
    packed = _packed(prefix, tmp_path / "1", strip=True)
    assert {f"{SITE}/pkg/tests/runner.py", f"{SITE}/api/test/__init__.py", "lib/model.a"} <= packed
    gone = {f"{SITE}/other/tests/data/table.csv", "lib/python3.1/test/test_sys.py", "lib/libtool.a", "lib/libalias.a"}
    assert gone.isdisjoint(packed)
    assert not any(path.endswith(".pyc") for path in packed)
    assert f"{SITE}/other/tests" not in packed


def test_a_stripped_environment_is_whole_and_packs_again_equal(prefix: Path, tmp_path: Path) -> None:
    """A -> B -> C -> A, also if B made bytecode meanwhile and strips again."""
    archive = pack(prefix, tmp_path / "a.tar.zst", choice=Choice(strip=True))
    assert archive.manifest.left_out == archives.read_manifest(archive.path).left_out == 5
    assert archive.not_packed is not None
    assert set(archive.not_packed.bytes) == {"compiled Python", "static libraries", "tests"}
    previous = archive.path
    for place in ("b", "c/with/a/longer/name", "a"):
        target = tmp_path / place
        unpack(previous, target)
        assert not set(_missing(target)) & {"lib/libtool.a", f"{SITE}/other/tests/data/table.csv"}
        previous = pack(target, tmp_path / f"{place[0]}2.tar.zst").path
        assert previous.read_bytes() == archive.path.read_bytes()
    cached = tmp_path / "b/lib/python3/site-packages/pkg/__pycache__/plain.cpython-311.pyc"
    cached.parent.mkdir()
    cached.write_bytes(b"made by running it")
    again = pack(tmp_path / "b", tmp_path / "again.tar.zst", choice=Choice(strip=True))
    assert again.path.read_bytes() == archive.path.read_bytes()


def test_verify_still_misses_what_was_not_left_out(prefix: Path, tmp_path: Path) -> None:
    pack(prefix, tmp_path / "a.tar.zst", choice=Choice([("exclude", "include")]))
    unpack(tmp_path / "a.tar.zst", tmp_path / "b")
    before = _missing(tmp_path / "b")
    assert "include/tool/a.h" not in before
    (tmp_path / "b/lib/libtool.a").unlink()
    assert "lib/libtool.a" in _missing(tmp_path / "b")
    record = tmp_path / "b/conda-meta/tool-1.0-0.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "version": "1.1"}))
    assert "include/tool/a.h" in _missing(tmp_path / "b"), "another version has to be whole"


def test_repair_does_not_bring_back_what_was_left_out(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    channel = support.make_channel(tmp_path / "channel")
    support.add_package(channel, "tool", files={"share/tool/kept": "kept\n", "share/tool/doc/big": "big\n"})
    place = make_workspace(settings=f'channels = ["{channel.as_uri()}"]')
    place.pack(place.create("chat", "tool"), tmp_path / "chat.tar.zst", filters=[("exclude", "share/tool/doc")])
    small = place.unpack(tmp_path / "chat.tar.zst", "small")
    assert place.verify(small).ok
    (small.prefix / "share/tool/kept").unlink()
    assert place.repair("small").ok
    assert (small.prefix / "share/tool/kept").read_text() == "kept\n"
    assert not (small.prefix / "share/tool/doc").exists()


@pytest.mark.parametrize("target", ["/etc", "../../outside", "../..", "/nowhere"])
def test_links_that_lead_out_are_left_out_and_named(prefix: Path, tmp_path: Path, target: str) -> None:
    for name in ("out", "out-as-well"):
        (prefix / "bin" / name).symlink_to(target)
    reporter = SilentReporter()
    archive = pack(prefix, tmp_path / "a.tar.zst", reporter=reporter)
    assert {"bin/out", "bin/out-as-well"}.isdisjoint(file.path for file in archive.manifest.files)
    told = [notice for notice in reporter.notices if "leads out of the environment" in notice]
    assert len(told) == 2
    assert all(target in notice for notice in told)


def test_dereference_packs_what_links_lead_to(prefix: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "inner").mkdir(parents=True)
    (data / "inner/table.csv").write_text("1\n")
    (data / "inner/round").symlink_to(data)
    (data / "inner/nothing").symlink_to("/nowhere")
    (prefix / "data").symlink_to(data)
    (prefix / "table.csv").symlink_to(data / "inner/table.csv")
    pack(prefix, tmp_path / "a.tar.zst", choice=Choice(dereference=True))
    unpack(tmp_path / "a.tar.zst", tmp_path / "b")
    found = {path: entry[0] for path, entry in snapshot(tmp_path / "b").items() if path.startswith(("data", "table"))}
    assert found == {"data": "folder", "data/inner": "folder", "data/inner/table.csv": "file", "table.csv": "file"}
    assert (tmp_path / "b/table.csv").read_text() == "1\n"


def test_a_link_to_a_folder_around_the_environment_is_not_followed(prefix: Path, tmp_path: Path) -> None:
    (prefix / "around").symlink_to(tmp_path)
    with pytest.raises(ArchiveError, match=r"around leads to .*, which the environment itself lies in"):
        pack(prefix, tmp_path / "a.tar.zst", choice=Choice(dereference=True))
    assert not (tmp_path / "a.tar.zst").exists()


def test_files_that_name_folders_of_this_machine_are_told(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (prefix / "etc/own.conf").write_text(f"models = {tmp_path}/home/models\nlibraries = {prefix}/lib\n")
    (prefix / "etc/fine.conf").write_text(f"models = {tmp_path}/home-of-another/models\n")
    (prefix / "bin/linked").write_bytes(Path("/bin/true").read_bytes())
    subprocess.run(["patchelf", "--set-rpath", f"{tmp_path}/home/lib", prefix / "bin/linked"], check=True)
    reporter = SilentReporter()
    pack(prefix, tmp_path / "a.tar.zst", reporter=reporter)
    told = sorted(notice.split(" names ")[0] for notice in reporter.notices if " names " in notice)
    assert told == ["bin/linked", "etc/own.conf"]


def test_what_conda_keeps_below_its_base_is_no_part_of_it(prefix: Path, tmp_path: Path) -> None:
    (prefix / "envs/other/conda-meta").mkdir(parents=True)
    (prefix / "pkgs/cache").mkdir(parents=True)
    (prefix / "share/envs").mkdir(parents=True)
    reporter = SilentReporter()
    archive = pack(prefix, tmp_path / "a.tar.zst", reporter=reporter)
    paths = {file.path for file in archive.manifest.files}
    assert {"envs", "pkgs", "envs/other"}.isdisjoint(paths)
    assert "share/envs" in paths
    assert sum("is no part of this environment" in notice for notice in reporter.notices) == 2


def test_an_environment_that_is_being_changed_is_not_packed(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    channel = support.make_channel(tmp_path / "channel")
    support.add_package(channel, "tool", files={"share/tool": "x\n"})
    place = make_workspace(settings=f'channels = ["{channel.as_uri()}"]')
    made = place.create("chat", "tool")
    with locks.exclusive(place.settings, "chat"), pytest.raises(EnvironmentBusyError):
        place.pack(made, tmp_path / "a.tar.zst")
    assert not (tmp_path / "a.tar.zst").exists()
    place.pack(made, tmp_path / "a.tar.zst")


def test_the_command_keeps_the_order_and_shows_what_was_saved(
    prefix: Path, tmp_path: Path, trainenv: RunCommand
) -> None:
    filters = ["--exclude", "include", "--include", "*/b.h", "--exclude", "lib/*.a"]
    done = trainenv(None, "pack", "-p", str(prefix), "-o", str(tmp_path / "a.tar.zst"), *filters, "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["not_packed"]["files"] == 4
    paths = {file.path for file in archives.read_manifest(tmp_path / "a.tar.zst").files}
    assert "include/tool/b.h" in paths
    assert "include/tool/a.h" not in paths


def test_a_virtual_environment_is_refused_with_the_way_out(tmp_path: Path, trainenv: RunCommand) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    done = trainenv(None, "pack", "-p", str(tmp_path / "venv"), "-o", str(tmp_path / "a.tar.zst"))
    assert done.returncode == 1
    assert "it is a virtual environment, whose interpreter" in done.stderr
    assert "trainenv create -n NAME" in done.stderr

"""What a task records of what it ran, kept once for all tasks that share it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests import support
from tests.conftest import MakeWorkspace, python_here
from trainenv import Workspace
from trainenv.environments import fingerprint
from trainenv.training import code, kept, surroundings

if TYPE_CHECKING:
    from tests.training.conftest import Bench


def age(tasks_dir: Path) -> None:
    for file in (tasks_dir / kept.FOLDER).iterdir():
        os.utime(file, (0, 0))


def workspace_on(tmp_path: Path, make_workspace: MakeWorkspace, folder: str = "workspace") -> Workspace:
    channel = tmp_path / "channel"
    if not channel.exists():
        support.make_channel(channel)
        support.add_package(channel, "tool", prefix_files={"bin/tool": "#!/bin/sh\necho @PREFIX@\n"})
        support.add_package(channel, "extra", files={"share/extra": "extra"})
    return make_workspace(folder, f'channels = ["{channel}"]\nhost_fallback = false')


def method(place: Workspace) -> None:
    folder = place.settings.methods_dir / "probe"
    folder.mkdir(parents=True)
    (folder / "method.yaml").write_text("conda_env: e\nstages: {train: {command: tool}}\n")


def test_a_task_holds_its_code_packages_and_lock(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    place = workspace_on(tmp_path, make_workspace)
    environment = place.create("e", "tool")
    method(place)
    task = place.train("probe")
    assert task.status == "done", task.log_file.read_text()
    assert [package.name for package in surroundings.packages_in(task.folder) or []] == ["tool"]
    assert code.unpacked(task.folder / code.FILE).sha256 == task.code_sha256
    assert (task.folder / "pixi.lock").read_bytes() == (
        environment.prefix / "conda-meta" / "trainenv" / "pixi.lock"
    ).read_bytes()
    assert task.manifest_sha256 == fingerprint.fingerprint(environment.prefix).manifest_sha256
    assert task.machine["cpus"] >= 1 and task.machine["memory"] > 1e6 and task.machine["kernel"] == os.uname().release

    again = place.train("probe")
    for name in (code.FILE, "pixi.lock", "packages.json"):
        assert (again.folder / name).samefile(task.folder / name)

    place.install("e", "extra")
    changed = place.train("probe")
    assert changed.manifest_sha256 != task.manifest_sha256 and changed.lock_sha256 != task.lock_sha256
    assert changed.code_sha256 == task.code_sha256


def test_the_manifest_hash_is_the_same_in_another_prefix(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    found = []
    for folder in ("one", "another/longer"):
        place = workspace_on(tmp_path, make_workspace, folder)
        found.append(fingerprint.fingerprint(place.create("e", "tool", "extra").prefix))
    assert found[0].manifest_sha256 == found[1].manifest_sha256


def test_an_environment_changed_by_another_tool_is_recorded_as_it_is(
    tmp_path: Path, make_workspace: MakeWorkspace
) -> None:
    place = workspace_on(tmp_path, make_workspace)
    prefix = place.create("e", "tool", "extra").prefix
    method(place)
    before = place.train("probe")
    (prefix / "conda-meta" / "extra-1.0-0.json").unlink()
    after = place.train("probe")
    assert [package.name for package in surroundings.packages_in(after.folder) or []] == ["tool"]
    assert "extra" in (before.folder / "pixi.lock").read_text()
    assert "extra" not in (after.folder / "pixi.lock").read_text()


def test_what_no_task_needs_any_more_goes(bench: Bench) -> None:
    tasks_dir = bench.settings.tasks_dir
    one, same = bench.start("print(1)").wait(), bench.start("print(1)").wait()
    other = bench.start("print(2)").wait()
    assert one.code_sha256 == same.code_sha256 != other.code_sha256
    assert len(list((tasks_dir / kept.FOLDER).iterdir())) == 2
    age(tasks_dir)
    place = Workspace(bench.settings.root)
    place.remove_tasks([one])
    assert len(list((tasks_dir / kept.FOLDER).iterdir())) == 2
    place.remove_tasks([same])
    assert len(list((tasks_dir / kept.FOLDER).iterdir())) == 1
    assert code.unpacked(other.folder / code.FILE).sha256 == other.code_sha256


def test_what_was_kept_just_now_stays_for_who_is_about_to_link_it(tmp_path: Path) -> None:
    file = kept.keep(tmp_path, "thing", lambda: b"one")
    kept.tidy(tmp_path)
    os.utime(file, (0, 0))
    assert kept.keep(tmp_path, "thing", lambda: b"other").read_bytes() == b"one"
    assert time.time() - file.stat().st_mtime < 60
    kept.tidy(tmp_path)
    assert file.exists()


def test_the_record_is_valid_json_with_all_that(bench: Bench) -> None:
    task = bench.start("pass").wait()
    written = json.loads((task.folder / "task.json").read_text())
    assert {"code_sha256", "git_commit", "git_dirty", "manifest_sha256", "lock_sha256", "machine"} <= written.keys()


def test_scripts_that_name_their_interpreter_do_not_change_the_manifest_hash(
    make_workspace: MakeWorkspace, wheels: Path
) -> None:
    found = []
    for folder in ("one", "another/longer"):
        environment = make_workspace(folder).create("e", f"python={python_here()}", "pip", files=[requirements(wheels)])
        assert str(environment.prefix) in (environment.prefix / "bin" / "pip").read_text()
        found.append(fingerprint.fingerprint(environment.prefix).manifest_sha256)
    assert found[0] == found[1]


def requirements(wheels: Path) -> Path:
    file = wheels / "requirements.txt"
    file.write_text("greeter==1.0\n")
    return file

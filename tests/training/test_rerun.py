"""A task run again: the same code, parameters and lock, whatever has changed since."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import support
from tests.conftest import MakeWorkspace, RunCommand
from tests.training.test_records import workspace_on
from trainenv import TaskError, Workspace
from trainenv.training import code, record
from trainenv.training.run import start

if TYPE_CHECKING:
    from tests.training.conftest import Bench

METHOD = """\
conda_env: e
stages: {train: {file: train.sh}}
parameters: {word: {type: string, required: true}, number: {type: integer, default: 1}}
"""


def method(place: Workspace, code: str, data: bytes = b"") -> Path:
    folder = place.settings.methods_dir / "probe"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "method.yaml").write_text(METHOD)
    (folder / "train.sh").write_text(code)
    if data:
        (folder / "data.bin").write_bytes(data)
    return folder


def test_the_same_again_runs_where_nothing_changed(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    place = workspace_on(tmp_path, make_workspace)
    place.create("e", "tool")
    folder = method(place, 'echo "$@"; pwd\n')
    first = place.train("probe", {"word": "two words"}, name="first")
    again = place.rerun(first).wait()
    assert place.differences(first).to_json() == {
        "code": [],
        "method_missing": False,
        "packages": [],
        "environment_missing": False,
        "host": {},
    }
    assert again.rerun_of == first.id and again.id != first.id and again.name == "first"
    assert again.log_file.read_text() == first.log_file.read_text() == f"--word=two words --number=1\n{folder}\n"
    for field in ("parameters", "code_sha256", "lock_sha256", "manifest_sha256", "conda_env", "command"):
        assert getattr(again, field) == getattr(first, field)
    other = place.rerun(first, number="7", name="other").wait()
    assert other.parameters == {"word": "two words", "number": 7} and other.name == "other"
    with pytest.raises(TaskError, match="no lock"):
        (first.folder / "pixi.lock").unlink()
        place.install("e", "extra")
        place.rerun(first)


def test_changed_code_runs_as_it_was_with_its_data(
    tmp_path: Path, make_workspace: MakeWorkspace, trainenv: RunCommand
) -> None:
    place = workspace_on(tmp_path, make_workspace)
    place.create("e", "tool")
    folder = method(place, "echo before; wc -c < data.bin; pwd; touch here\n", b"x" * (2 << 20))
    first = place.train("probe", word="w")
    assert first.status == "done"
    (folder / "here").unlink()
    method(place, "echo after\n")
    assert place.differences(first).code == ("train.sh",)

    again = place.rerun(first).wait()
    own = again.folder / "code" / "probe"
    assert again.log_file.read_text() == f"before\n{2 << 20}\n{own}\n"
    assert again.code_sha256 == first.code_sha256 and (again.folder / code.FILE).samefile(first.folder / code.FILE)
    assert (own / "here").is_file() and not (folder / "here").exists()
    third = place.rerun(again).wait()
    assert third.log_file.read_text().startswith("before\n") and third.rerun_of == again.id

    shutil.rmtree(folder)
    assert place.differences(first).code == ("data.bin", "method.yaml", "train.sh")
    done = trainenv(place, "task", "rerun", first.id)
    assert done.stderr.startswith("trainenv: method probe is not there any more: its copy runs\n")
    assert done.stdout.startswith("before\n") and done.returncode == 0
    assert not list(place.settings.tasks_dir.glob(".new-*"))


def test_a_changed_environment_is_made_again_from_the_lock(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    place = workspace_on(tmp_path, make_workspace)
    support.add_package(tmp_path / "channel", "extra", "2.0", files={"share/extra": "newer"})
    place.create("e", "tool", "extra=1.0")
    method(place, 'echo "$CONDA_DEFAULT_ENV $(cat "$CONDA_PREFIX/share/extra")"\n')
    first = place.train("probe", word="w")
    assert first.log_file.read_text() == "e extra\n"
    place.install("e", "extra=2.0")
    (change,) = place.differences(first).packages
    assert (change.name, change.kind) == ("extra", "changed")

    again = place.rerun(first).wait()
    assert again.log_file.read_text() == f"{again.conda_env} extra\n" and again.conda_env.startswith("e-")
    assert again.manifest_sha256 == first.manifest_sha256
    assert place.rerun(first).wait().conda_env == place.rerun(again).wait().conda_env == again.conda_env
    assert place.rerun(first, as_is=True).wait().log_file.read_text() == "e newer\n"

    place.remove("e", force=True)
    assert place.differences(first).missing
    assert place.rerun(first).wait().log_file.read_text() == again.log_file.read_text()
    assert {found.name for found in place.environments()} == {again.conda_env}

    # An environment that bears the lock's name and was changed is not the one that ran.
    place.install(again.conda_env, "extra=2.0")
    with pytest.raises(TaskError, match="these differ: extra"):
        place.rerun(first)


def test_the_command_says_what_differs(tmp_path: Path, make_workspace: MakeWorkspace, trainenv: RunCommand) -> None:
    place = workspace_on(tmp_path, make_workspace)
    place.create("e", "tool")
    method(place, "echo one\n")
    first = place.train("probe", word="w")
    said = trainenv(place, "task", "rerun", first.id, "--dry-run")
    assert said.stdout == "nothing differs from what it ran\n" and len(place.tasks()) == 1
    method(place, "echo two\n")
    place.install("e", "extra")
    record.write(str(first.folder), {**first.to_json(), "host": "elsewhere", "machine": {"gpus": ["A100"]}})
    done = trainenv(place, "task", "rerun", first.id, "--set", "number=3")
    assert done.returncode == 0 and done.stdout == "one\n", done.stderr
    for line in (
        "the code of probe differs now: train.sh",
        "extra differs now in e: none then, 1.0 now",
        "host differs now: elsewhere then",
        "gpus differs now: A100 then, none now",
        f"from the lock of task {first.id}",
    ):
        assert line in done.stderr
    shown = json.loads(trainenv(place, "task", "rerun", first.id, "--as-is", "--json").stdout)
    assert shown["differences"]["code"] == ["train.sh"] and shown["rerun_of"] == first.id
    assert json.loads(trainenv(place, "task", "rerun", first.id, "--dry-run", "--json").stdout) == shown["differences"]
    wrong = trainenv(place, "task", "rerun", first.id, "--set", "numbr=3")
    assert wrong.returncode == 2 and "numbr" in wrong.stderr and len(place.tasks()) == 3


def test_code_that_is_not_what_ran_is_refused(bench: Bench, tmp_path: Path) -> None:
    task = bench.start("print(1)").wait()
    bench.method("print(2)")
    place = Workspace(bench.settings.root)
    other = tmp_path / "other"
    other.mkdir()
    (other / "train.py").write_text("print('evil')")
    (task.folder / code.FILE).unlink()
    with pytest.raises(TaskError, match="can't be read"):
        place.differences(task)
    (task.folder / code.FILE).write_bytes(code.packed(code.read(other)))
    with pytest.raises(TaskError, match="not what ran"):
        place.differences(task)


def test_code_that_changes_while_its_task_waits_runs_as_it_was_given(bench: Bench) -> None:
    settings = replace(bench.settings, gpus=1)
    yaml = "conda_env: small_env\nfile: train.py\nresources: {gpus: 1}\n"
    blocking = bench.method("import time; print('up', flush=True); time.sleep(600)", yaml=yaml)
    running = start(settings, blocking, {}, prefix=bench.prefix)
    bench.until(lambda: "up" in running.log_file.read_text())
    waiting = start(settings, bench.method("print('first')", yaml=yaml), {}, prefix=bench.prefix)
    same = start(settings, bench.method("print('second')", yaml=yaml), {}, prefix=bench.prefix)
    running.cancel()
    ended = waiting.wait()
    assert ended.log_file.read_text() == "first\n" and ended.working_folder == str(ended.folder / "code" / "probe")
    ended = same.wait()
    assert ended.log_file.read_text() == "second\n" and ended.working_folder == str(settings.methods_dir / "probe")

"""New methods, and other environments for old ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import RunCommand
from tests.training.conftest import Bench
from trainenv import Workspace
from trainenv.errors import MethodError, UsageError
from trainenv.training.method import load_method
from trainenv.training.method_editing import new_method, set_environment
from trainenv.training.run import start, wait

COMMENTED = """\
# What this is
name: probe            # its name
description: "A probe: with a colon"
conda_env: old_env     # to be changed

stages:
    train:   {file: train.py}   # short
    infer:
        # how it answers
        command: [python, -m, "infer it"]
        conda_env: 'other_env'
    save:
        file: save.py
parameters:
    words:
        type: array
        default:
            - one   # first
            - two
"""


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    folder = tmp_path / "probe"
    folder.mkdir()
    for name in ("train.py", "save.py"):
        (folder / name).touch()
    (folder / "method.yaml").write_text(COMMENTED)
    return folder


def test_a_new_method_trains_at_once(bench: Bench) -> None:
    method = new_method(bench.settings.methods_dir, "fresh", Bench.environment)
    task = wait(start(bench.settings, method, {"epochs": 50, "learning_rate": 0.5}, prefix=bench.prefix))
    assert (task.status, task.metrics["epoch"]) == ("done", 50)
    assert task.metrics["loss"] is not None and task.metrics["loss"] < 0.02
    model = json.loads((task.outputs / "model.json").read_text())
    schema = method.folder.parent / "method.schema.json"
    assert (method.folder / "method.yaml").read_text().startswith(f"# yaml-language-server: $schema=../{schema.name}\n")
    assert json.loads(schema.read_text())["title"]
    assert model["slope"] == pytest.approx(3, abs=0.1) and model["offset"] == pytest.approx(1, abs=0.1)


def test_only_the_environment_changes(probe: Path) -> None:
    before = load_method(probe.parent, "probe")
    changed = set_environment(before, "new_env")
    assert (probe / "method.yaml").read_text() == COMMENTED.replace("conda_env: old_env ", "conda_env: new_env ")
    assert changed.environment_of("train") == changed.environment_of("save") == "new_env"
    changed = set_environment(changed, "answers", "infer")
    assert changed.environment_of("infer") == "answers" and changed.environment_of("train") == "new_env"
    changed = set_environment(changed, "keeps", "save")
    changed = set_environment(changed, "short_env", "train")
    assert changed.environment_of("train") == "short_env"
    assert changed.environment_of("save") == "keeps"
    text = (probe / "method.yaml").read_text()
    for comment in (
        "# What this is",
        "# its name",
        "# to be changed",
        "# short",
        "# how it answers",
        "- one   # first",
    ):
        assert comment in text
    assert "        conda_env: keeps\n        file: save.py\n" in text
    assert "{conda_env: short_env, file: train.py}   # short" in text
    assert os.listdir(probe.parent) == ["probe"] and sorted(os.listdir(probe)) == ["method.yaml", "save.py", "train.py"]


def test_a_stage_that_has_no_place_for_it(probe: Path) -> None:
    (probe / "method.yaml").write_text("conda_env: old_env\nfile: train.py\n")
    method = load_method(probe.parent, "probe")
    with pytest.raises(MethodError, match="gives stage train by 'file'"):
        set_environment(method, "new_env", "train")
    with pytest.raises(MethodError, match="has no stage 'infer'"):
        set_environment(method, "new_env", "infer")
    with pytest.raises(UsageError):
        set_environment(method, "../evil")
    assert (probe / "method.yaml").read_text() == "conda_env: old_env\nfile: train.py\n"
    for text in (
        "file: train.py\n",
        "conda_env:\nfile: train.py",
        "file: train.py\nconda_env: ~\n",
        "{file: train.py}",
    ):
        (probe / "method.yaml").write_text(text)
        assert set_environment(method, "new_env").environment_of("train") == "new_env"


@pytest.mark.parametrize("name", ["310", "1e5", "null", "yes", "3.10", "a-b_c.d"])
def test_names_that_yaml_would_take_for_something_else(probe: Path, name: str) -> None:
    changed = set_environment(load_method(probe.parent, "probe"), name)
    assert changed.environment_of("train") == name
    assert new_method(probe.parent, "fresh", name).environment_of("train") == name


def test_a_copy_of_a_method(probe: Path) -> None:
    (probe / "__pycache__").mkdir()
    source = load_method(probe.parent, "probe")
    copy = new_method(probe.parent, "copy", "new_env", source)
    assert (copy.name, copy.conda_env, copy.environment_of("infer")) == ("copy", "new_env", "other_env")
    assert sorted(os.listdir(copy.folder)) == ["method.yaml", "save.py", "train.py"]
    assert new_method(probe.parent, "same", None, source).conda_env == "old_env"
    assert (probe / "method.yaml").read_text() == COMMENTED


def test_what_is_there_is_never_replaced(probe: Path, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="is there already"):
        new_method(tmp_path, "probe", "new_env")
    with pytest.raises(UsageError):
        new_method(tmp_path, "../probe", "new_env")
    with pytest.raises(MethodError, match="needs an environment"):
        new_method(tmp_path, "fresh", None)
    (tmp_path / "file").touch()
    with pytest.raises(MethodError, match="can't be made"):
        new_method(tmp_path / "file", "fresh", "new_env")
    assert sorted(os.listdir(tmp_path)) == ["file", "probe"]


def test_the_commands(workspace: Workspace, trainenv: RunCommand) -> None:
    done = trainenv(workspace, "method", "new", "fresh")
    assert done.returncode == 2 and "--conda-env NAME" in done.stderr
    done = trainenv(workspace, "method", "new", "fresh", "--conda-env", "chat")
    assert done.returncode == 0 and "trainenv train fresh" in done.stdout
    done = trainenv(workspace, "method", "set-env", "fresh", "other", "--json")
    assert json.loads(done.stdout)["conda_env"] == "other"
    done = trainenv(workspace, "method", "set-env", "none", "other")
    assert done.returncode == 2 and len(done.stderr.splitlines()) <= 2

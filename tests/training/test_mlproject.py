"""MLflow's projects as methods: entry points, typed parameters, commands, environments."""

from __future__ import annotations

import json
import subprocess
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import python_here
from trainenv import Workspace
from trainenv.errors import MethodError, ParameterError
from trainenv.training.command_template import render
from trainenv.training.method import BrokenMethod, Method, list_methods, load_method
from trainenv.training.method_checks import problems
from trainenv.training.method_editing import new_method, set_environment
from trainenv.training.parameters import checked_parameters
from trainenv.training.run import start, wait

if TYPE_CHECKING:
    from tests.training.conftest import Bench

PROJECT = """\
name: Wine quality

python_env: python_env.yaml

entry_points:
  main:
    parameters:
      data: path
      alpha: {type: float, default: 0.5}
      rounds: {type: float, default: 10}
      note: {type: string, default: "it's $HOME; `x`"}
    command: "python train.py {alpha} {rounds} --data={data} -n {note} '{note}' \\"{note}\\" {{x}}"
  validate:
    parameters:
      model: uri
    command: python validate.py {model} | cat
  say:
    command: "echo said"
"""


def project(methods_dir: Path, content: str = PROJECT, **files: str) -> Path:
    folder = methods_dir / "wine"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MLproject").write_text(content)
    (folder / "train.py").write_text("import json, sys; print(json.dumps(sys.argv[1:]))")
    (folder / "validate.py").write_text("import sys; print('loss', sys.argv[1]); sys.exit(3)")
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(textwrap.dedent(text))
    return folder


def test_entry_points_are_stages(tmp_path: Path) -> None:
    folder = project(tmp_path)
    method = load_method(tmp_path, "wine")
    assert (method.description, method.conda_env) == ("Wine quality", "./python_env.yaml")
    assert list(method.stages) == ["train", "validate", "say"]
    with pytest.raises(ParameterError, match="needs a value for parameter 'data'"):
        checked_parameters(method, {})
    with pytest.raises(ParameterError, match=r"'low'.*must be a number"):
        checked_parameters(method, {"data": "d", "alpha": "low"})
    with pytest.raises(ParameterError, match=r"'s3://b/d'.*must be a path on this machine"):
        checked_parameters(method, {"data": "s3://b/d"})
    assert checked_parameters(method, {"model": "s3://b/m"}, "validate") == {"model": "s3://b/m"}
    assert checked_parameters(method, {"model": str(folder)}, "validate") == {"model": str(folder)}
    assert checked_parameters(method, {}, "say") == {}


def test_its_commands_run_in_a_shell_with_values_that_stay_values(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(bench.settings.methods_dir)
    monkeypatch.chdir(folder.parent)
    method = load_method(bench.settings.methods_dir, "wine")
    task = wait(start(bench.settings, method, {"data": "a b.csv"}, conda_env="small_env", prefix=bench.prefix))
    assert task.status == "done", task.log_file.read_text()
    note = "it's $HOME; `x`"
    expected = ["0.5", "10", f"--data={folder.parent}/a b.csv", "-n", note, note, note, "{x}"]
    assert json.loads(task.log_file.read_text()) == expected
    task = wait(start(bench.settings, method, {}, stage="say", conda_env="small_env", prefix=bench.prefix))
    assert task.log_file.read_text() == "said\n"


@settings(max_examples=40)
@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20))
def test_no_value_is_anything_but_a_text_to_the_shell(value: str) -> None:
    command = render(r"""printf '%s\0' {v} "{v}" '{v}' "a\"{v}" 'it'\''s {v}' x{v} {{}}""", {"v": value})
    out = subprocess.run(["bash", "-c", command], capture_output=True, check=True).stdout.decode()
    assert out.split("\0")[:-1] == [value, value, value, f'a"{value}', f"it's {value}", f"x{value}", "{}"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("entry_points:\n  main: {command: 'python {x}'}\n", "2:19: entry_points.main.command: {x} is no parameter"),
        ("entry_points:\n  main: {command: 'a {x.y}'}\n", "{x.y} is no parameter's name"),
        ("entry_points:\n  main: {command: 'a {'}\n", "2:19: entry_points.main.command"),
        ("entry_points:\n  main: {parameters: {a: 3}, command: a}\n", "parameters.a: it must be a type"),
        ("entry_points:\n  main: {}\n", "an entry point needs one"),
        ("docker_env: {image: x}\nentry_points: {main: {command: a}}\n", "1:1: docker_env: it can't be run here"),
        ("conda_env: a.yaml\npython_env: b.yaml\n", "2:13: python_env: it names conda_env as well"),
        ("conda_env: ../a.yaml\n", "must be a file in the project's folder"),
        ("[", "not valid YAML"),
    ],
)
def test_a_mistake_has_file_line_and_column(tmp_path: Path, content: str, says: str) -> None:
    project(tmp_path, content)
    with pytest.raises(MethodError) as caught:
        load_method(tmp_path, "wine")
    assert "MLproject:" in str(caught.value) and says in str(caught.value)
    (broken,) = list_methods(tmp_path)
    assert isinstance(broken, BrokenMethod)


def test_what_validate_says(tmp_path: Path) -> None:
    project(tmp_path)
    assert ["MLproject:3:13" in problem for problem in problems(tmp_path, "wine", {})] == [True] * 3
    project(tmp_path, PROJECT.replace("python_env: python_env.yaml", ""))
    assert "no conda_env is named" in problems(tmp_path, "wine", {})[0]


def test_it_can_be_copied_but_names_no_environment_of_ours(tmp_path: Path) -> None:
    project(tmp_path)
    copied = new_method(tmp_path, "copy", None, load_method(tmp_path, "wine"))
    assert isinstance(copied, Method) and copied.file.name == "MLproject"
    with pytest.raises(MethodError, match="--conda-env NAME"):
        set_environment(copied, "other")


def test_its_python_env_is_made_when_it_is_needed(workspace: Workspace, wheels: Path) -> None:
    project(
        workspace.settings.methods_dir,
        python_env__yaml=f"""
            python: "{python_here()}"
            build_dependencies: [pip]
            dependencies: [-r requirements.txt]
            """,
        requirements__txt="greeter<2\n",
    )
    (workspace.settings.methods_dir / "wine" / "train.py").write_text("import greeter; print(greeter.__file__)")
    assert workspace.validate("wine") == []
    task = workspace.train("wine", data="d")
    assert task.status == "done" and task.conda_env.startswith("python_env-")
    assert task.prefix in task.log_file.read_text()
    assert workspace.rerun(task).wait().parameters == task.parameters
    piped = workspace.train("wine", stage="validate", model="s3:m")
    assert (piped.status, piped.log_file.read_text()) == ("done", "loss s3:m\n")
    again = workspace.rerun(piped).wait()
    assert (again.stage, again.log_file.read_text()) == ("validate", "loss s3:m\n")


def test_its_conda_env_is_made_as_well(workspace: Workspace, wheels: Path) -> None:
    project(
        workspace.settings.methods_dir,
        PROJECT.replace("python_env: python_env.yaml", "conda_env: conda.yaml"),
        conda__yaml=f"name: wines\ndependencies: [python={python_here()}, pip: [greeter]]\n",
    )
    assert workspace.train("wine", stage="say").conda_env.startswith("wines-")

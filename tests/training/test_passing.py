"""What code gets of its parameters in each way of passing them, and files that it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trainenv.errors import UsageError
from trainenv.training.passing import variables
from trainenv.training.run import start, wait

if TYPE_CHECKING:
    from tests.training.conftest import Bench

SEEN = """
    import json, os, sys
    file = sys.argv[-1]
    found = json.load(open(file)) if file.endswith(".json") else None
    print(json.dumps({"argv": sys.argv[1:], "file": found, "variables": dict(os.environ)}))
"""


def seen(bench: Bench, yaml: str, **parameters: object) -> tuple[dict[str, Any], Path]:
    method = bench.method(SEEN, yaml=f"conda_env: small_env\nfile: train.py\n{yaml}")
    task = wait(start(bench.settings, method, parameters, prefix=bench.prefix))
    assert task.status == "done", task.log_file.read_text()
    found: dict[str, Any] = json.loads(task.log_file.read_text())
    return found, task.folder


PARAMETERS = "parameters: {rate: {type: number, default: 0.1}, to: {default: '{outputs}/x'}}\n"


def test_a_json_file(bench: Bench) -> None:
    found, folder = seen(bench, f"pass_parameters: json\n{PARAMETERS}")
    assert found["argv"] == [str(folder / "parameters.json")]
    assert found["file"] == {"rate": 0.1, "to": f"{folder}/outputs/x"}
    assert json.loads((folder / "task.json").read_text())["parameters"] == {"rate": 0.1, "to": "{outputs}/x"}


def test_environment_variables(bench: Bench) -> None:
    found, folder = seen(
        bench, f"pass_parameters: environment\nenvironment: {{LOGS: '{{outputs}}/logs'}}\n{PARAMETERS}"
    )
    assert (found["argv"], found["variables"]["RATE"]) == ([], "0.1")
    assert (found["variables"]["TO"], found["variables"]["LOGS"]) == (f"{folder}/outputs/x", f"{folder}/outputs/logs")


def test_as_deepextension_passes_them(bench: Bench) -> None:
    parameters = "{load_in_4bit: {default: false}, output_dir: {default: '{outputs}'}}"
    yaml = f"pass_parameters: deepextension\nparameters: {parameters}"
    found, folder = seen(bench, yaml)
    assert found["argv"] == [
        f"--train_id={folder.name}",
        "--seq=1",
        "--load_in_4bit=False",
        f"--output_dir={folder}/outputs",
    ]


def test_paths_are_absolute_wherever_they_are_given(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    yaml = """parameters:
      data: {format: path}
      own: {format: path, default: data/own.csv}
      source: {format: uri, default: "s3://bucket/x"}
      other: {format: uri}
    """
    found, _ = seen(bench, yaml, data=Path("d.csv"), other="sub/../o.csv")
    folder = bench.settings.methods_dir / "probe"
    assert found["argv"] == [
        f"--data={tmp_path}/d.csv",
        f"--own={folder}/data/own.csv",
        "--source=s3://bucket/x",
        f"--other={tmp_path}/o.csv",
    ]


def test_promised_outputs_have_to_be_there(bench: Bench) -> None:
    yaml = "conda_env: small_env\nfile: train.py\noutputs: [model.bin, 'logs/**/*.txt']\n"
    code = "import os; out = os.environ['TRAINENV_OUTPUTS']; open(out + '/model.bin', 'w')"
    task = wait(start(bench.settings, bench.method(code, yaml=yaml), {}, prefix=bench.prefix))
    assert (task.status, task.exit_code) == ("failed", 0)
    assert task.error == "it left no logs/**/*.txt in its outputs"
    more = f"{code}; os.makedirs(out + '/logs/a/b'); open(out + '/logs/a/b/c.txt', 'w')"
    task = wait(start(bench.settings, bench.method(more, yaml=yaml), {}, prefix=bench.prefix))
    assert (task.status, task.error) == ("done", None)
    task = wait(start(bench.settings, bench.method("raise SystemExit(3)", yaml=yaml), {}, prefix=bench.prefix))
    assert (task.status, task.exit_code, task.error) == ("failed", 3, None)


@pytest.mark.parametrize("name", ["path", "ld_preload", "pythonpath", "cuda_visible_devices", "trainenv_task_dir"])
def test_no_parameter_becomes_a_variable_with_a_meaning(name: str) -> None:
    with pytest.raises(UsageError, match="a meaning of its own"):
        variables({name: "x"})

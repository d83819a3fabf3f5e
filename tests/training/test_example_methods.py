"""The example methods: valid, what their code takes is what they declare, and they train, in real environments."""

from __future__ import annotations

import ast
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import python_here
from trainenv import Workspace
from trainenv.training.method import load_method
from trainenv.training.method_checks import problems
from trainenv.training.method_file import SCHEMA, schema

METHODS = Path(__file__).parents[2] / "methods"
NAMES = sorted(file.parent.name for file in METHODS.glob("*/method.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_example_is_valid(name: str) -> None:
    assert problems(METHODS, name, dict.fromkeys(("tabular_env", "modern_env"), Path("/envs"))) == []
    method = load_method(METHODS, name)
    for stage in method.stages.values():
        declared = {f"--{each.name}": each for each in method.parameters_of(stage.name).values()}
        tree = ast.parse((method.folder / (stage.file or stage.command[-1])).read_text(), feature_version=(3, 10))
        taken = {
            ast.literal_eval(call.args[0]): {word.arg: word.value for word in call.keywords}
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "parser.add_argument"
        }
        assert taken.keys() == declared.keys()
        for option, words in taken.items():
            if "default" in words:
                assert ast.literal_eval(words["default"]) == declared[option].default
            assert ("required" in words) == (declared[option].required or declared[option].type == "array")


def test_editors_find_the_schema_beside_them() -> None:
    assert json.loads((METHODS / SCHEMA).read_text()) == schema()


@pytest.fixture(scope="session")
def examples(shared_cache: Path) -> Workspace:
    """A workspace with the example methods, and the environments that they have made, for all tests of a run."""
    root = shared_cache.parent / "examples"
    staging = root.with_name(f"examples-{os.getpid()}")
    staging.mkdir()
    (staging / "trainenv.toml").write_text(f'cache_dir = "{shared_cache}"\nchannels = ["host"]\n')
    shutil.copytree(METHODS, staging / "methods")
    for file in [*staging.glob("methods/*/*.yml"), *staging.glob("methods/*/environments/*.yml")]:
        file.write_text(file.read_text().replace("python=3.11", f"python={python_here()}"))
    try:
        staging.rename(root)
    except OSError:
        shutil.rmtree(staging)  # Another process of the run was first.
    return Workspace(root)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks have the variables of their starter: models this small only wait for each other's threads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


# An environment with torch has to be downloaded where no cache has it.
pytestmark = pytest.mark.timeout(1800)


def test_a_transformer_learns_to_write(examples: Workspace) -> None:
    task = examples.train("python_docs_transformer", steps=20, width=32, context=32, layers=1)
    assert task.status == "done", task.log_file.read_text()
    records = examples.metrics(task)
    losses = [record["test_loss"] for record in records]
    assert len(records) == 20 and losses[0] is not None and losses[-1] is not None
    assert losses[-1] < losses[0] - 0.3
    assert (task.outputs / "model.pt").stat().st_size > 10_000
    assert len((task.outputs / "sample.txt").read_text()) > 100


def test_two_processes_train_one_model(examples: Workspace) -> None:
    task = examples.train("python_docs_ddp", epochs=2, batch_size=2048)
    assert task.status == "done", task.log_file.read_text()
    assert "2 processes, on" in task.log_file.read_text()
    first, second = examples.metrics(task)
    assert first["loss"] is not None and second["loss"] is not None and second["loss"] < first["loss"]
    assert (task.outputs / "model.pt").is_file()


def test_three_stages_run_in_an_environment_each(examples: Workspace) -> None:
    trained = examples.train("wine_three_stages", rounds=5)
    assert trained.status == "done", trained.log_file.read_text()
    accuracy = trained.metrics["accuracy"]
    assert accuracy is not None and accuracy > 0.9
    saved = examples.train("wine_three_stages", stage="save", model=trained.outputs / "model.npz", digits=5)
    assert saved.status == "done", saved.log_file.read_text()
    answered = examples.train("wine_three_stages", stage="infer", model=str(saved.outputs / "model.json"))
    assert answered.log_file.read_text() == "it is class_0\n"
    assert [task.conda_env.split("-")[0] for task in (trained, saved, answered)] == [
        "wine_train",
        "wine_save",
        "wine_infer",
    ]
    for name in ("breast_cancer_sgd", "digits_mlp"):
        task = examples.train(name, conda_env=trained.conda_env, epochs=3)
        assert task.status == "done" and len(examples.metrics(task)) == 3, task.log_file.read_text()

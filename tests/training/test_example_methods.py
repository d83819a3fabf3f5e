"""The example methods: valid, and their code takes exactly the parameters that they declare."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from trainenv.training.method import load_method
from trainenv.training.method_checks import problems

METHODS = Path(__file__).parents[2] / "methods"


@pytest.mark.parametrize(("name", "conda_env"), [("breast_cancer_sgd", "tabular_env"), ("digits_mlp", "modern_env")])
def test_example_is_valid(name: str, conda_env: str) -> None:
    method = load_method(METHODS, name)
    assert problems(METHODS, name, {conda_env: Path("/envs")}) == []

    declared = {f"--{each.name}": each.default for each in method.parameters.values()}
    tree = ast.parse((method.folder / "train.py").read_text(), feature_version=(3, 9))
    taken = {
        ast.literal_eval(call.args[0]): next(
            ast.literal_eval(word.value) for word in call.keywords if word.arg == "default"
        )
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "parser.add_argument"
    }
    assert taken == declared

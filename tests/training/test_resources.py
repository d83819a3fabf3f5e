"""What a single task takes, otherwise than its method says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainenv.errors import UsageError
from trainenv.training.resources import Resources
from trainenv.training.run import start, wait

if TYPE_CHECKING:
    from tests.training.conftest import Bench


def test_a_task_can_take_other_things_than_its_method_says(bench: Bench) -> None:
    yaml = "conda_env: small_env\nfile: train.py\nresources: {gpus: 2, time: 1h}\n"
    method = bench.method("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])", yaml=yaml)
    bench.configure("gpus = 1")
    task = wait(start(bench.settings, method, {}, prefix=bench.prefix, resources={"gpus": 1, "memory": "1 GB"}))
    assert Resources(**task.resources) == Resources(gpus=1, memory=10**9, time=3600.0)
    assert task.log_file.read_text() == "0\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gpus": -1}, "gpus can't be -1: it must be a whole number, 0 or more"),
        ({"time": "soon"}, "time can't be 'soon': it must be a time above 0. Write it as 90s"),
        ({"gpu": 1}, "there is no resource 'gpu'. Known are: gpus"),
        ({"gpu_memory": "1GB"}, "Say how many GPUs as well"),
    ],
)
def test_what_it_cannot_take_is_said(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        Resources().changed(given)
    assert message in str(error.value)

"""Which log lines are metrics, and which only look like it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainenv.training.metric_lines import Metrics, log_data, parse
from trainenv.training.metrics import to_line


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"epoch": 3, "loss": 0.12}', {"epoch": 3, "loss": 0.12}),
        ('{"loss": 1}\r', {"loss": 1}),
        (
            '  {"loss": 1e-5, "note": "a", "ok": true, "none": null, "deep": {"x": 1}, "l": [1]} ',
            {"loss": 1e-5},
        ),
        (
            '{"step": 1, "loss": NaN, "norm": Infinity, "big": 1e999}',
            {"step": 1, "loss": None, "norm": None, "big": None},
        ),
        ('[log_data]: {"step": 7, "loss": 2}', {"step": 7, "loss": 2}),
        ('12:30:01 INFO [log_data]: {"loss": 2}', {"loss": 2}),
        ("epoch=3 loss=0.12", {"epoch": 3, "loss": 0.12}),
        (
            "step=3, eval/loss=-.5; lr=1e-05 | top-1=1.",
            {"step": 3, "eval/loss": -0.5, "lr": 1e-05, "top-1": 1.0},
        ),
        ("iteration=1 loss=nan", {"iteration": 1, "loss": None}),
        (
            "{'loss': 0.5, 'grad_norm': 1.25, 'learning_rate': 5e-05, 'epoch': 0.1}",
            {"loss": 0.5, "grad_norm": 1.25, "learning_rate": 5e-05, "epoch": 0.1},
        ),
        ("{'loss': '0.5', 'epoch': '1.0', 'note': 'x'}", {"loss": 0.5, "epoch": 1.0}),
        (
            "{'epoch': 2, 'acc': np.float64(0.9), 'sizes': [1, 2], 'loss': tensor(0.5, device='cuda:0')}",
            {"epoch": 2, "acc": 0.9, "loss": 0.5},
        ),
        ("INFO epoch=3 loss=0.12", {"epoch": 3, "loss": 0.12}),
        ("INFO:root:epoch=3 loss=0.12", {"epoch": 3, "loss": 0.12}),
        ("2026-01-31 12:30:01,250 - my.train - INFO - step=3 loss=.5", {"step": 3, "loss": 0.5}),
        ("[12:30:01] {'loss': 0.5, 'epoch': 1}", {"loss": 0.5, "epoch": 1}),
        ('[2026-01-31T12:30:01Z][info] {"loss": 0.5}', {"loss": 0.5}),
    ],
)
def test_metrics(line: str, found: Metrics) -> None:
    assert parse(line) == found


@pytest.mark.parametrize(
    "line",
    [
        "",
        "training begins",
        "learning_rate=0.1 seed=3",
        "epoch=3",
        '{"epoch": 3}',
        "epoch=3 loss=0.12 now",
        "Namespace(epoch=3, loss=0.1) at 12:30",
        "seed=7 12:30 epoch=3 loss=0.12",
        "saw epoch=3 loss=0.12",
        "epoch=3 loss=low",
        "epoch=3 loss=0.1.2",
        "epoch= loss=1",
        "epoch=1e loss=1",
        "epoch = 3 loss = 0.1",
        "Namespace(epoch=3, loss=0.1)",
        '{"model": "small", "resume": false}',
        "{'batch_size': 32, 'seed': 7}",
        "{'epoch': 3, 'loss': 0.1",
        '{"loss": 0.1',
        "[0.1, 0.2]",
        "0.5",
        "[log_data]: 0.5",
        "[log_data]:",
        '{"a":' * 5000 + "1" + "}" * 5000,
        '{"loss": ' + "1" * 5000 + "}",
        "12:30 INFO" + " " * 50_000 + "x",
        "12:30 " + "a:" * 25_000,
    ],
)
def test_not_metrics(line: str) -> None:
    assert parse(line) is None


@given(st.text(alphabet=st.sampled_from("{}[]'\":=,|+-.0123456789eEnaif \t\\stepoch")))
def test_any_line_is_metrics_or_not_and_valid_json(line: str) -> None:
    found = parse(line)
    if found is not None:
        assert json.loads(to_line(found)) == found


def test_what_deepextension_prints_has_its_metrics_in_details() -> None:
    about = '"level": "info", "time": "2026-01-31T12:30:01Z", "taskUuid": "a1", "seq": 4'
    measured = '{"step": 3, "reward": null, "loss": 0.5, "learning_rate": 2e-05, "epoch": 0.25}'
    line = f'[log_data]: {{{about}, "msgDetail": "12.5", "msg": 200009, "details": {measured}}}'
    assert parse(line) == {"step": 3, "loss": 0.5, "learning_rate": 2e-05, "epoch": 0.25}
    begun = f'[log_data]: {{{about}, "msgDetail": "model", "msg": 200001, "details": null}}'
    assert parse(begun) is None
    data = log_data(begun)
    assert data is not None and (data["msg"], data["seq"]) == (200001, 4)

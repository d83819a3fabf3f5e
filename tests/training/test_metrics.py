"""Which log lines are metrics, and which only look like it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainenv.training import metrics
from trainenv.training.metrics import Lines, Metrics, parse


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
        "INFO epoch=3 loss=0.12",
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
        '{"loss": 1, "pad": "' + "x" * 70_000 + '"}',
    ],
)
def test_not_metrics(line: str) -> None:
    assert parse(line) is None


@given(st.text(alphabet=st.sampled_from("{}[]'\":=,|+-.0123456789eEnaif \t\\stepoch")))
def test_any_line_is_metrics_or_not_and_valid_json(line: str) -> None:
    found = parse(line)
    if found is not None:
        assert json.loads(metrics.to_line(found)) == found


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_lines_are_the_same_however_they_are_read(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    lines = Lines()
    read = [line for start, end in itertools.pairwise(edges) for line in lines.feed(data[start:end])]
    whole = Lines()
    assert read + lines.finish() == whole.feed(data) + whole.finish()


def test_a_line_too_long_for_metrics_is_left_out_whole() -> None:
    lines = Lines()
    read = []
    for piece in [b"first\n", *[b"x" * 50_000] * 5, b'{"loss": 1}\n', b"last\n", b"y" * 70_000, b"z"]:
        read += lines.feed(piece)
    assert read + lines.finish() == ["first", "last"]


def test_an_unfinished_record_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert metrics.read(str(file)) == []
    file.write_bytes(metrics.to_line({"loss": 1}) + b'{"loss": ')
    assert metrics.read(str(file)) == [{"loss": 1}]

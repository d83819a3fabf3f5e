"""What a growing log states, line by line, and the records that are kept of it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainenv.training import metrics
from trainenv.training.metrics import Lines, Metrics, Reader

RECORDED = Path(__file__).parent / "recorded"


def read(log: bytes, patterns: tuple[str, ...] = (), piece: int = 1 << 20) -> list[Metrics]:
    """The records of a whole log, read in pieces of this many bytes."""
    reader = Reader(patterns)
    stated = [found for at in range(0, len(log), piece) for found in reader.feed(log[at : at + piece])]
    return [found.metrics for found in stated + reader.finish() if found.metrics]


HUGGING_FACE = [
    {"loss": 0.6928, "grad_norm": 0.09999, "learning_rate": 4e-05, "epoch": 0.5},
    {"loss": 0.6927, "grad_norm": 0.5875, "learning_rate": 2.75e-05, "epoch": 1},
    {"eval_loss": 0.6912, "eval_accuracy": 0.6875, "epoch": 1},
    {"loss": 0.6932, "grad_norm": 0.0738, "learning_rate": 1.5e-05, "epoch": 1.5},
    {"loss": 0.692, "grad_norm": 0.08856, "learning_rate": 2.5e-06, "epoch": 2},
    {"eval_loss": 0.6911, "eval_accuracy": 0.6875, "epoch": 2},
    {"train_loss": 0.6927, "epoch": 2},
]
LIGHTNING = [
    {"epoch": 0, "step": 10, "train_loss_step": 0.557, "val_loss": 0.388, "train_loss_epoch": 2.61},
    {"epoch": 1, "step": 20, "train_loss_step": 0.0328, "val_loss": 0.0235, "train_loss_epoch": 0.145},
    {"epoch": 2, "step": 30, "train_loss_step": 0.00227, "val_loss": 0.00171, "train_loss_epoch": 0.0092},
]
KERAS = [
    {"epoch": 1, "step": 10, "accuracy": 0.525, "loss": 0.7247, "val_accuracy": 0.4375, "val_loss": 0.7581},
    {"epoch": 2, "step": 20, "accuracy": 0.625, "loss": 0.6919, "val_accuracy": 0.5, "val_loss": 0.7294},
    {"epoch": 3, "step": 30, "accuracy": 0.65, "loss": 0.6626, "val_accuracy": 0.5625, "val_loss": 0.7035},
    {"eval_accuracy": 0.6875, "eval_loss": 0.6448},
]
RICH_LONG = [{"epoch": 1, "step": 1000, "train_loss_step": 0, "val_loss": 0, "train_loss_epoch": 0.002}]
RICH = [{"epoch": 2, "step": 10, "train_loss_step": 0.002, "val_loss": 0.002, "train_loss_epoch": 0.009}]


@pytest.mark.parametrize("piece", [7, 1 << 20])
@pytest.mark.parametrize(
    ("log", "found"),
    [
        ("hf_plain", HUGGING_FACE),
        ("hf_tqdm", HUGGING_FACE),
        ("lightning_tqdm", LIGHTNING),
        ("lightning_rich", RICH),
        ("lightning_rich_long", RICH_LONG),
        ("keras_1", KERAS),
        ("keras_2", KERAS),
    ],
)
def test_what_trainers_really_print(log: str, found: list[Metrics], piece: int) -> None:
    """Recorded from transformers 5.24, lightning 2.6 and keras 3.15, with and without their progress bars."""

    def without_pace(record: Metrics) -> Metrics:
        return {name: value for name, value in record.items() if not name.endswith(("_runtime", "_per_second"))}

    records = read((RECORDED / f"{log}.log").read_bytes(), piece=piece)
    assert [without_pace(record) for record in records] == found


def test_a_method_has_patterns_of_its_own() -> None:
    patterns = (
        r"step (?P<step>\d+): train loss (?P<train_loss>\S+), val loss (?P<val_loss>\S+)",
        r"iter (?P<step>\d+): loss (?P<loss>[\d.]+)(?P<unit>ms)?",
    )
    log = b"""number of parameters: 0.80M
step 0: train loss 4.2874, val loss nan
iter 10: loss 3.5, time 12.5ms
iter x: loss y
iter 11: loss 3.4.1
epoch=1 loss=2.5
"""
    assert read(log, patterns) == [
        {"step": 0, "train_loss": 4.2874, "val_loss": None},
        {"step": 10, "loss": 3.5},
        {"epoch": 1, "loss": 2.5},
    ]


def test_a_report_behind_a_bar_is_read() -> None:
    log = b'\r 50%|#####     | 1/2 [00:00<00:00, 3.00it/s][log_data]: {"loss": 1}\n'
    log += b"\r 50%|#####     | 1/2 [00:00<00:00, 3.00it/s]epoch=1 loss=0.5\n"
    assert read(log) == [{"loss": 1}, {"epoch": 1, "loss": 0.5}]


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
    assert read + lines.finish() == [b"first", b"last"]


def test_an_unfinished_record_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert metrics.read(str(file)) == []
    file.write_bytes(metrics.to_line({"loss": 1}) + b'{"loss": ')
    assert metrics.read(str(file)) == [{"loss": 1}]


@given(st.binary(max_size=300), st.integers(1, 50))
def test_a_log_states_the_same_however_it_is_read(log: bytes, piece: int) -> None:
    assert read(log, piece=piece) == read(log)

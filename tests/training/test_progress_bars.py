"""Which drawings of a progress bar become records."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from trainenv.training.metric_lines import Metrics
from trainenv.training.progress_bars import Bars

RECORDED = Path(__file__).parent / "recorded"


def bar(name: str, done: int, total: int, elapsed: str, *items: str) -> str:
    part = 100 * done // total
    return f"{name}: {part:3}%|{'#' * (part // 10):10}| {done}/{total} [{elapsed}<00:09, 9.9it/s, {', '.join(items)}]"


def drawn(*lines: str) -> list[Metrics]:
    bars = Bars()
    found = [record for line in lines for record in bars.line(line)[1]]
    return found + bars.finish()


def test_a_bar_is_one_record_for_each_time_that_it_has_run() -> None:
    lines = [bar("epoch 1", done, 40, "00:01", f"loss={2 - done / 40}") for done in range(41)]
    lines += [bar("epoch 2", done, 40, "00:01", f"loss={1 - done / 40}") for done in range(41)]
    assert drawn(*lines) == [{"epoch": 1, "step": 40, "loss": 1.0}, {"epoch": 2, "step": 80, "loss": 0.0}]


def test_a_bar_that_takes_long_is_a_record_every_five_seconds_and_hundredth() -> None:
    slow = [bar("train", done, 10, f"00:{done * 2:02}", f"loss={done}") for done in range(11)]
    assert [record["step"] for record in drawn(*slow)] == [3, 6, 9, 10]
    many = [bar("train", done, 10_000, f"{done // 60:02}:{done % 60:02}", f"loss={done}") for done in range(0, 2000, 7)]
    steps = [record["step"] for record in drawn(*many)]
    assert len(steps) == 19 and steps[:2] == [105, 210]


def test_while_a_bar_runs_only_what_changes_is_recorded() -> None:
    found = drawn(
        bar("Epoch 0", 1, 2, "00:09", "loss=3"),
        bar("Epoch 0", 2, 2, "00:12", "loss=2"),
        bar("Epoch 0", 2, 2, "00:12", "loss=2", "val_loss=5"),
        bar("Epoch 1", 0, 2, "00:00", "loss=2", "val_loss=5"),
        bar("Epoch 1", 1, 2, "00:09", "loss=1", "val_loss=5"),
    )
    assert found == [
        {"epoch": 0, "step": 1, "loss": 3},
        {"epoch": 0, "step": 2, "loss": 2, "val_loss": 5},
        {"epoch": 1, "step": 3, "loss": 1},
    ]


def test_bars_that_measure_nothing_are_no_records() -> None:
    assert drawn("Map:  50%|#####     | 500/1000 [00:09<00:09, 900.00 examples/s]", "12it [00:10,  1.2it/s]") == []
    assert drawn(bar("train", 1, 2, "00:09", "v_num=3", "note=low")) == []


def test_bars_without_an_end_and_with_scaled_counts() -> None:
    assert drawn("12it [00:01,  1.2it/s, loss=0.5]") == [{"step": 12, "loss": 0.5}]
    line = "tokens:  10%|#         | 1.20k/12.0k [00:01<00:10, 1.00kit/s, loss=0.5]"
    assert drawn(line) == [{"step": 1200, "loss": 0.5}]


def test_a_bar_over_epochs_counts_them() -> None:
    assert drawn(bar("epochs", 1, 2, "00:01", "loss=3"), bar("epochs", 2, 2, "00:02", "loss=2")) == [
        {"epoch": 2, "loss": 2}
    ]


def test_bars_of_older_keras() -> None:
    found = drawn(
        "Epoch 1/2",
        " 1/10 [==>...........................] - ETA: 1s - loss: 0.9 - accuracy: 0.5",
        "10/10 [==============================] - 1s 21ms/step - loss: 0.8 - accuracy: 0.6 - val_loss: 0.9",
        "Epoch 2/2",
        "10/10 - 0s - loss: 0.7 - accuracy: 0.7 - val_loss: 0.8 - 12ms/epoch - 1ms/step",
        "313/313 - 0s - loss: 0.6 - accuracy: 0.8 - 200ms/epoch - 1ms/step",
    )
    assert found == [
        {"epoch": 1, "step": 10, "loss": 0.8, "accuracy": 0.6, "val_loss": 0.9},
        {"epoch": 2, "step": 20, "loss": 0.7, "accuracy": 0.7, "val_loss": 0.8},
        {"eval_loss": 0.6, "eval_accuracy": 0.8},
    ]
    longer = drawn("Epoch 1/1", "3/3 [====] - 1s 9ms/step - loss: 0.8", "9/9 [====] - 1s 9ms/step - loss: 0.6")
    assert longer == [{"epoch": 1, "step": 3, "loss": 0.8}, {"eval_loss": 0.6}]


def test_bars_within_bars_are_told_apart() -> None:
    """Recorded from tqdm 4.70: one bar, then one within another."""
    text = (RECORDED / "tqdm.log").read_text()
    lines = [line.removesuffix("\x1b[A") for line in text.replace("\r", "\n").split("\n")]
    by_name = {tuple(record): record for record in drawn(*lines)}
    assert by_name[("epoch", "step", "acc", "loss")] == {"epoch": 1, "step": 20, "acc": 0.5, "loss": 0.05}
    assert by_name[("step", "loss")] == {"step": 12, "loss": 0.167}


def test_what_stands_behind_a_bar_is_left() -> None:
    left, _ = Bars().line(bar("train", 1, 2, "00:01", "loss=3") + "epoch=1 loss=2")
    assert left == "epoch=1 loss=2"
    left, _ = Bars().line("10/10 of them are there")
    assert left == "10/10 of them are there"


@given(st.lists(st.text(alphabet=st.sampled_from("ab 0123456789/%|[]<:,.=-━•?its\n"), max_size=80), max_size=8))
def test_any_lines_are_bars_or_not(lines: list[str]) -> None:
    for record in drawn(*lines):
        assert any(name not in ("epoch", "step") for name in record)

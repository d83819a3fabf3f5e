"""TensorBoard's event files, as the real writers write them: whole, growing, damaged, hostile."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboardX import SummaryWriter

from trainenv.training.event_files import EventFiles
from trainenv.training.metric_lines import Metrics

RECORDED = Path(__file__).parent / "recorded"


def test_what_torch_writes() -> None:
    """Recorded from torch 2.13 with tensorboard 2.21: scalars, a text, several lines in one chart."""
    assert EventFiles(str(RECORDED / "torch")).read() == [
        {"step": 0, "train/loss": 1.0, "lr": 0.1},
        {"step": 1, "train/loss": 0.5, "lr": 0.1},
        {"step": 4, "norm": None},
        {"step": 5, "both_a/both": 1.5},
        {"step": 5, "both_b/both": 2.5},
    ]


def test_runs_beside_each_other_keep_their_names() -> None:
    """Recorded from tensorboard 2.21, in the folders and the form (a tensor) of Keras' callback."""
    assert EventFiles(str(RECORDED / "keras")).read() == [
        {"step": 0, "epoch_loss": 0.5},
        {"step": 1, "epoch_loss": 0.25},
        {"step": 0, "validation/epoch_loss": 0.75},
        {"step": 1, "validation/epoch_loss": 0.375},
    ]


def read_soon(files: EventFiles, writer: SummaryWriter) -> list[Metrics]:
    """What comes next: the writer writes in a thread of its own."""
    give_up_at = time.monotonic() + 30
    while not (found := files.read()):
        assert time.monotonic() < give_up_at, "nothing was written"
        writer.flush()
        time.sleep(0.01)
    return found


def test_a_growing_file_is_read_on(tmp_path: Path) -> None:
    files = EventFiles(str(tmp_path))
    assert files.read() == []
    with SummaryWriter(str(tmp_path / "runs" / "a")) as writer:
        for step in range(3):
            writer.add_scalar("loss", 1 / (step + 1), step)
            assert read_soon(files, writer) == [{"step": step, "loss": pytest.approx(1 / (step + 1))}]
            assert files.read() == []
        noise = random.Random(7).randbytes(3 * 256 * 256)
        import numpy as np

        writer.add_image("noise", np.frombuffer(noise, np.uint8).reshape(3, 256, 256), 3)
        writer.add_histogram("weights", np.arange(100), 3)
        writer.add_scalar("loss", 0.25, 3)
    assert files.read() == [{"step": 3, "loss": 0.25}]
    assert EventFiles(str(tmp_path / "missing")).read() == []


def only_file(folder: Path) -> Path:
    (file,) = (RECORDED / "torch").glob("events*")
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(file, folder))


def test_a_file_is_read_whole_however_it_grows(tmp_path: Path) -> None:
    whole = only_file(tmp_path / "whole").read_bytes()
    file = only_file(tmp_path / "growing")
    file.write_bytes(b"")
    files, steps = EventFiles(str(file.parent)), []
    for end in range(0, len(whole) + 1, 11):
        file.write_bytes(whole[:end])
        steps += [(record["step"], name) for record in files.read() for name in record if name != "step"]
    file.write_bytes(whole)
    steps += [(record["step"], name) for record in files.read() for name in record if name != "step"]
    assert steps == [(0, "train/loss"), (0, "lr"), (1, "train/loss"), (1, "lr"), (4, "norm")]


def test_a_damaged_file_counts_up_to_that_place(tmp_path: Path) -> None:
    file = only_file(tmp_path)
    content = bytearray(file.read_bytes())
    place = content.index(b"train/loss", content.index(b"lr"))
    content[place] ^= 1
    file.write_bytes(content)
    assert EventFiles(str(tmp_path)).read() == [{"step": 0, "train/loss": 1.0, "lr": 0.1}]


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(1, 255))
def test_no_content_brings_it_down(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, place: int, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("any", numbered=True)
    changed = bytearray(only_file(folder).read_bytes())
    changed[place % len(changed)] ^= flip
    (folder / "events.out.tfevents.1.changed").write_bytes(changed)
    (folder / "events.out.tfevents.2.noise").write_bytes(content)
    (folder / "events.out.tfevents.3.short").write_bytes(bytes(changed)[:place])
    for record in EventFiles(str(folder)).read():
        assert all(value is None or isinstance(value, int | float) for value in record.values())

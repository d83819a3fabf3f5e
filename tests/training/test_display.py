"""A log as a terminal would show it: what is drawn again and again is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainenv.training.display import Screen, shown

RECORDED = Path(__file__).parent / "recorded"


def screened(text: str, *, live: bool = False, piece: int = 1 << 16) -> str:
    screen = Screen(live=live, clock=lambda: 0.0)
    return "".join(screen.feed(text[at : at + piece]) for at in range(0, len(text), piece)) + screen.finish()


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("one\ntwo\n", "one\ntwo\n"),
        ("one\n\ntwo", "one\n\ntwo"),
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        ("\r 10%\r 50%\r100%\nend\n", "100%\nend\n"),
        ("a long line\rshort\n", "shortg line\n"),
        ("a long line\r\x1b[Kshort\n", "short\n"),
        ("12\b3\n", "13\n"),
        ("\x1b[1mbold\x1b[0m\n", "\x1b[1mbold\x1b[0m\n"),
        ("\x1b[1mbold\x1b[0m\rthin\n", "thin\n"),
        ("outer\n\r1/9 inner\x1b[A\n\r2/9 inner\x1b[A\n\n", "outer\n2/9 inner\n"),
        ("plain \x1b[5;5Htext\n", "plain text\n"),
        ("x" * 200_000, "x" * 200_000),
        ("x" * 200_000 + "\nend\n", "x" * 200_000 + "\nend\n"),
    ],
)
def test_what_is_shown(written: str, seen: str, live: bool) -> None:
    assert screened(written, live=live).rstrip("\n") == seen.rstrip("\n")


@pytest.mark.parametrize("live", [False, True])
def test_many_plain_lines_are_shown_as_they_are(live: bool) -> None:
    written = "".join(f"line {number}\n" for number in range(5000))
    assert screened(written, live=live, piece=1000) == written
    assert screened(f"\r 1%\r 2%\n{written}", live=live, piece=9999) == f" 2%\n{written}"


@pytest.mark.parametrize(("log", "lines"), [("hf_tqdm", 8), ("keras_1", 7), ("lightning_tqdm", 6), ("tqdm", 2)])
def test_bars_of_trainers_take_a_line(log: str, lines: int) -> None:
    text = "".join(shown([(RECORDED / f"{log}.log").read_bytes()]))
    assert len(text.splitlines()) == lines, text


def test_live_lines_come_as_they_end_and_bars_every_ten_seconds() -> None:
    now = 0.0
    screen = Screen(live=True, clock=lambda: now)
    assert screen.feed("begun\n\r 1%") == "begun\n"
    assert screen.feed("\r 2%") == ""
    now = 11.0
    assert screen.feed("\r 3%") == " 3%\n"
    assert screen.feed("\r 4%") == ""
    assert screen.feed("\r100%\nend") == "100%\n"
    assert screen.finish() == "end"


@given(st.text(alphabet=st.sampled_from("ab%\r\n\b\x1b[AK2m"), max_size=60), st.integers(1, 9))
def test_it_is_the_same_however_it_comes(text: str, piece: int) -> None:
    assert screened(text, piece=piece) == screened(text)
    screened(text, live=True, piece=piece)

"""Work reports itself the same way to whoever watches: a program, a log file, a terminal, nobody."""

from __future__ import annotations

import errno
import fcntl
import functools
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainenv.progress import JsonLinesReporter, Reporter, SilentReporter
from trainenv.terminal import TerminalReporter, human_time


def work(reporter: Reporter) -> None:
    """An outer step with two inner ones, the second of which fails."""
    reporter.notice("numpy[extra] is [new]")
    with reporter.step("create one"):
        with reporter.step("fetch", total=3, unit="packages") as step:
            step.detail("from [/here]")
            step.advance(2)
            step.advance()
        with reporter.step("link [x]", unit="B") as step:
            step.expect(5_000_000)
            step.advance(2_500_000)
            raise RuntimeError("no room")


# Programs


def json_events() -> list[dict[str, Any]]:
    out = io.StringIO()
    with pytest.raises(RuntimeError, match="no room"):
        work(JsonLinesReporter(out))
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_json_tells_what_begins_and_ends_in_order() -> None:
    told = [(event["event"], event.get("step", event.get("text"))) for event in json_events()]
    assert told == [
        ("notice", "numpy[extra] is [new]"),
        ("start", "create one"),
        ("start", "fetch"),
        ("detail", "fetch"),
        ("done", "fetch"),
        ("start", "link [x]"),
        ("failed", "link [x]"),
        ("failed", "create one"),
    ]


def test_json_counts() -> None:
    events = json_events()
    fetched = next(event for event in events if event["event"] == "done")
    assert fetched.pop("seconds") >= 0
    assert fetched == {"event": "done", "step": "fetch", "done": 3, "total": 3, "unit": "packages"}
    linked = next(event for event in events if event["event"] == "failed")
    assert (linked["done"], linked["total"], linked["unit"]) == (2_500_000, 5_000_000, "B")


def test_json_lines_stay_whole_and_complete_under_many_threads() -> None:
    out = io.StringIO()
    with JsonLinesReporter(out).step("hash", unit="files") as step:

        def advance() -> None:
            for number in range(400):
                step.advance()
                step.detail(f"file {number}")

        threads = [threading.Thread(target=advance) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert events[-1]["event"] == "done"
    assert events[-1]["done"] == 8 * 400
    assert sum(event["event"] == "detail" for event in events) == 8 * 400


def test_json_goes_to_standard_error_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    JsonLinesReporter().notice("hello")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert json.loads(shown.err) == {"event": "notice", "text": "hello"}


# Nobody


def test_silence_keeps_the_notices(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = SilentReporter()
    with pytest.raises(RuntimeError, match="no room"):
        work(reporter)
    assert reporter.notices == ["numpy[extra] is [new]"]
    assert capsys.readouterr() == ("", "")


# Log files


def logged_lines() -> list[str]:
    out = io.StringIO()
    with pytest.raises(RuntimeError, match="no room"):
        work(TerminalReporter(out))
    return out.getvalue().splitlines()


def test_a_log_gets_one_plain_line_for_each_step() -> None:
    shapes = [re.sub(r" +\d+(\.\d)? m?s", " TIME", line) for line in logged_lines()]
    assert shapes == [
        "! numpy[extra] is [new]",
        "  ✓ fetch TIME  3 packages",
        "  ✗ link [x] TIME  2.5 MB",
        "✗ create one TIME",
    ]


def test_times_stand_one_below_the_other() -> None:
    ends = {match.end() for line in logged_lines() if (match := re.search(r"\d m?s\b", line))}
    assert len(ends) == 1


@pytest.mark.parametrize("variables", [{"FORCE_COLOR": "1"}, {"TERM": "xterm", "COLUMNS": "40"}])
def test_a_log_has_no_bars_whatever_the_environment_says(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    text = "\n".join(logged_lines())
    assert re.sub(r"\x1b\[[0-9;]*m", "", text).count("\x1b") == 0
    assert "\r" not in text


def test_a_long_name_is_never_cut_in_a_log() -> None:
    out = io.StringIO()
    name = "package Python from " + "/a/rather/long/folder" * 12
    with TerminalReporter(out).step(name):
        pass
    assert re.fullmatch(rf"✓ {name} +\d+ ms", out.getvalue().strip())


# Terminals


LASTING = """
import sys, time
from trainenv.terminal import TerminalReporter
reporter = TerminalReporter()
with reporter.step("short"):
    pass
with reporter.step("outer"):
    with reporter.step("fetch " + "very " * 30 + "much", total=7, unit="packages") as step:
        step.advance(3)
        step.detail("numpy [/x]")
        time.sleep(0.7)
        print("said on standard output")
    reporter.notice("between")
with reporter.step("unpack", total=2_000_000, unit="B") as step:
    step.advance(500_000)
    time.sleep(0.7)
"""


@functools.cache
def seen_in_terminal(code: str, columns: int = 100, **variables: str) -> str:
    """Every character that ``code`` writes to a terminal, control sequences included."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    environ = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    environ |= {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | variables
    process = subprocess.Popen([sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 65536)
        except OSError as error:
            assert error.errno == errno.EIO  # the other side is closed
            break
    os.close(ours)
    assert process.wait() == 0, seen.decode()
    return seen.decode()


def without_controls(seen: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)


def frames(seen: str) -> list[str]:
    """What was written between two returns to the beginning of a line."""
    return [frame.rstrip() for frame in re.split(r"[\r\n]+", without_controls(seen)) if frame.strip()]


def test_a_terminal_shows_a_bar_while_a_step_lasts() -> None:
    seen = seen_in_terminal(LASTING)
    lines = frames(seen)
    assert any(re.search(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] fetch .*… .* ━━━━━━─+ 3/7 packages$", line) for line in lines)
    assert any(re.search(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] unpack .* ━━━━─+ 0\.5/2\.0 MB$", line) for line in lines)
    assert not any(re.search(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] short", line) for line in lines)
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") > 0, "the cursor must come back"


def test_what_stays_in_a_terminal_is_each_line_once() -> None:
    lines = [line.split() for line in frames(seen_in_terminal(LASTING))]
    ended = [words[1] for words in lines if words[0] in "✓✗!"]
    assert ended == ["short", "fetch", "between", "outer", "unpack"]
    assert lines.count(["said", "on", "standard", "output"]) == 1


@pytest.mark.parametrize("columns", [24, 70, 100])
def test_a_running_step_takes_one_line_of_any_terminal(columns: int) -> None:
    running = [line for line in frames(seen_in_terminal(LASTING, columns)) if re.search("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", line)]
    assert running
    assert max(map(len, running)) < columns


def test_a_dumb_terminal_gets_lines_only() -> None:
    seen = seen_in_terminal(LASTING, TERM="dumb")
    assert "\x1b" not in seen
    assert "━" not in seen
    assert len(frames(seen)) == 6


def test_standard_output_that_is_piped_on_gets_what_is_printed_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "piped"
    seen = seen_in_terminal(f"import sys; sys.stdout = open({str(file)!r}, 'w')\n{LASTING}")
    assert "said" not in seen
    assert file.read_text() == "said on standard output\n"


# Times


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.04, "40 ms"), (0.0999, "0.1 s"), (1.24, "1.2 s"), (59.97, "1 min 00 s"), (125.4, "2 min 05 s")],
)
def test_times_as_people_say_them(seconds: float, text: str) -> None:
    assert human_time(seconds) == text


@given(st.floats(0, 1e6))
def test_a_time_is_right_to_its_last_digit(seconds: float) -> None:
    text = human_time(seconds)
    if match := re.fullmatch(r"(\d+) min ([0-5]\d) s", text):
        assert abs(int(match[1]) * 60 + int(match[2]) - seconds) <= 0.5
    elif match := re.fullmatch(r"(\d{1,2}\.\d) s", text):
        assert abs(float(match[1]) - seconds) <= 0.051
    else:
        match = re.fullmatch(r"(\d{1,2}) ms", text)
        assert match
        assert abs(int(match[1]) / 1000 - seconds) <= 0.00051

"""Create and install report as one step in bytes: conda's downloads and links, then PyPI's."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeWorkspace, program, python_here
from tests.support import add_package, guarded, make_channel
from trainenv import Workspace
from trainenv.progress import JsonLinesReporter


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    """A channel with ``large``, of 400 kB that can't be compressed, and ``small``, which needs it."""
    folder = make_channel(tmp_path / "channel")
    add_package(folder, "large", files={"share/large": os.urandom(300_000).hex()})
    add_package(folder, "small", depends=["large"], files={"share/small": "small\n"})
    return folder


def size_of(channel: Path, *names: str) -> int:
    listed = json.loads((channel / "noarch" / "repodata.json").read_text())["packages"]
    return sum(entry["size"] for entry in listed.values() if entry["name"] in names)


def own_cache(tmp_path: Path, url: str) -> str:
    return f'cache_dir = "{tmp_path / "cache"}"\nchannels = ["{url}"]\nhost_fallback = false'


def empty_workspace(tmp_path: Path, url: str) -> Workspace:
    root = tmp_path / "own"
    root.mkdir()
    (root / "trainenv.toml").write_text(own_cache(tmp_path, url))
    return Workspace(root)


def events_of(place: Workspace, change: Callable[[Workspace], object]) -> list[dict[str, Any]]:
    told = io.StringIO()
    change(Workspace(place.settings.root, reporter=JsonLinesReporter(told)))
    return [json.loads(line) for line in told.getvalue().splitlines()]


def last(events: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in events[-1].items() if key != "seconds"}


def test_what_is_fetched_counts_twice_and_what_is_cached_once(tmp_path: Path, channel: Path) -> None:
    both = size_of(channel, "large", "small")
    with guarded(channel) as server:
        place = empty_workspace(tmp_path, server.url)
        cold = last(events_of(place, lambda one: one.create("cold", "small")))
        warm = last(events_of(place, lambda one: one.create("warm", "small")))
    expected = {"event": "done", "unit": "B", "packages": 2}
    assert cold == expected | {
        "step": "create cold",
        "done": 2 * both,
        "total": 2 * both,
        "downloaded": both,
        "fetched": 2,
    }
    assert warm == expected | {"step": "create warm", "done": both, "total": both, "downloaded": 0, "fetched": 0}


def test_a_download_that_breaks_off_is_not_counted_beyond_its_size(tmp_path: Path, channel: Path) -> None:
    both = size_of(channel, "large", "small")
    with guarded(channel, drops=1) as server:
        place = empty_workspace(tmp_path, server.url)
        done = last(events_of(place, lambda one: one.create("one", "small")))
    assert (done["downloaded"], done["done"], done["total"]) == (both, 2 * both, 2 * both)


def test_only_what_a_change_adds_is_counted(tmp_path: Path, channel: Path) -> None:
    with guarded(channel) as server:
        place = empty_workspace(tmp_path, server.url)
        place.create("one", "large")
        done = last(events_of(place, lambda one: one.install("one", "small")))
    small = size_of(channel, "small")
    assert (done["step"], done["packages"], done["downloaded"]) == ("change one", 1, small)
    assert done["done"] == done["total"] == 2 * small


def test_pypi_packages_count_into_the_same_step(make_workspace: MakeWorkspace, wheels: Path) -> None:
    place = make_workspace()
    requirements = wheels.parent / "requirements.txt"
    requirements.write_text("needs_greeter\n")
    place.create("one", f"python={python_here()}")
    events = events_of(place, lambda one: one.install("one", files=[requirements]))
    done = last(events)
    files = sum((wheels / f"{name}-1.0-py3-none-any.whl").stat().st_size for name in ("needs_greeter", "greeter"))
    assert (done["step"], done["packages"]) == ("change one", 2)
    assert done["done"] == done["total"] == files + done["downloaded"]
    assert [event["step"] for event in events if event["event"] == "start"] == [
        "change one",
        "resolve PyPI requirements",
    ]


def on_terminal(place: Workspace, *arguments: str, columns: int, interrupt_at: str = "") -> tuple[int, str]:
    """The exit code of ``trainenv ARGUMENTS`` and all that it wrote to a terminal; Ctrl-C once that shows a text."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    environ = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        program(place, *arguments),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environ | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"},
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # nobody holds the other side any more
            break
        if interrupt_at and interrupt_at in seen.decode(errors="replace"):
            process.send_signal(signal.SIGINT)
            interrupt_at = ""
    os.close(ours)
    return process.wait(), seen.decode()


@pytest.mark.parametrize("columns", [80, 40])
def test_a_terminal_shows_one_bar_with_bytes_and_what_is_worked_on(tmp_path: Path, channel: Path, columns: int) -> None:
    with guarded(channel, bytes_per_second=400_000) as server:
        place = empty_workspace(tmp_path, server.url)
        code, seen = on_terminal(place, "create", "-n", "one", "-y", "small", columns=columns)
    assert code == 0, seen
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    lines = [line for line in re.split(r"[\r\n]+", plain) if line.strip()]
    bars = [line for line in lines if "━" in line or "─" in line]
    assert any(re.search(r"create one: dow.* [━─]+ 0\.\d/0\.\d MB$", line) for line in bars), bars
    assert max(map(len, bars)) < columns
    ended = next(line for line in lines if line.startswith("✓ create one"))
    assert re.search(r"s  2 packages, 0\.\d MB downloaded$", ended)


def test_ctrl_c_while_it_downloads_leaves_nothing_and_says_so(tmp_path: Path, channel: Path) -> None:
    with guarded(channel, bytes_per_second=100_000) as server:
        place = empty_workspace(tmp_path, server.url)
        begun = time.monotonic()
        code, seen = on_terminal(place, "create", "-n", "one", "-y", "small", columns=80, interrupt_at=": download")
        assert code == 130
        assert time.monotonic() - begun < 3, "the download itself takes longer"
    assert "trainenv: interrupted: environment 'one' was not made" in seen
    assert "Traceback" not in seen
    assert not place.settings.prefix_of("one").exists()
    staging = place.settings.envs_dir / ".trainenv" / "staging"
    assert [item.name for item in staging.iterdir() if item.is_dir()] == []
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") == 1, "the cursor must come back"

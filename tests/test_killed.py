"""Promise 1: killed at any moment, an environment is whole or absent, and the next command heals it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, program, python_here
from tests.environments.test_generations import contents
from trainenv import Workspace, locks

POINTS = 20


def _staging(place: Workspace) -> list[Path]:
    folder = place.settings.envs_dir / ".trainenv" / "staging"
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _run(place: Workspace, arguments: Sequence[str]) -> float:
    """Run to the end, which must be a good one; returns the seconds it took."""
    begun = time.monotonic()
    done = subprocess.run(program(place, *arguments), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - begun


def _kill_after(place: Workspace, arguments: Sequence[str], seconds: float) -> None:
    process = subprocess.Popen(
        program(place, *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    # A uv that it had started goes on for a moment, and keeps its folder from being swept.
    while any(locks.holders_of(folder / "lock") for folder in _staging(place)):
        time.sleep(0.02)


def _assert_whole(place: Workspace, *, imports: Sequence[str]) -> None:
    environment = place.environment("chat")
    assert place.verify(environment, imports=False).problems == []
    subprocess.run([environment.prefix / "bin/python", "-c", f"import {', '.join(imports)}"], check=True)


def _kill_all_over(
    place: Workspace, arguments: Sequence[str], check: Callable[[], None], undo: Callable[[], None]
) -> None:
    """Kill ``arguments`` at ``POINTS`` moments of its run; check; the same command must then succeed."""
    _run(place, arguments)
    undo()
    whole = _run(place, arguments)
    undo()
    for point in range(POINTS):
        _kill_after(place, arguments, whole * (point + 0.5) / POINTS)
        check()
        undo()
        _run(place, arguments)
        check()
        assert _staging(place) == [], f"killed at point {point}, the next command left its remains"
        undo()


@pytest.fixture
def requirements(wheels: Path, tmp_path: Path) -> Path:
    file = tmp_path / "requirements.txt"
    file.write_text("needs_greeter\n")
    return file


def _remove_if_there(place: Workspace) -> None:
    if place.environments():
        place.remove("chat")


def test_create(workspace: Workspace, requirements: Path) -> None:
    def check() -> None:
        if workspace.settings.prefix_of("chat").exists():
            _assert_whole(workspace, imports=["greeter", "needs_greeter"])

    arguments = ["create", "-n", "chat", f"python={python_here()}", "-r", str(requirements)]
    _kill_all_over(workspace, arguments, check, lambda: _remove_if_there(workspace))


def test_install(workspace: Workspace, requirements: Path, wheels: Path) -> None:
    workspace.create("chat", f"python={python_here()}", files=[requirements])
    support.make_wheel(wheels, "added", requires=["greeter"])
    added = requirements.with_name("added.txt")
    added.write_text("added\n")
    kept = workspace.settings.root / "kept"
    subprocess.run(["cp", "-al", workspace.settings.prefix_of("chat"), kept], check=True)

    def check() -> None:
        names = {item.name for item in workspace.environment("chat").packages}
        _assert_whole(workspace, imports=["greeter", *(["added"] if "added" in names else [])])

    def undo() -> None:
        names = {item.name for item in workspace.environment("chat").packages}
        if "added" in names:
            prefix = workspace.settings.prefix_of("chat")
            subprocess.run(["rm", "-rf", prefix], check=True)
            subprocess.run(["cp", "-al", kept, prefix], check=True)

    _kill_all_over(workspace, ["install", "-n", "chat", "-r", str(added)], check, undo)


def test_rollback(workspace: Workspace, requirements: Path, wheels: Path) -> None:
    prefix = workspace.create("chat", f"python={python_here()}", files=[requirements]).prefix
    support.make_wheel(wheels, "added", requires=["greeter"])
    states = [contents(prefix)]
    workspace.install("chat", requirements=["added"])
    states.append(contents(prefix))

    def check() -> None:
        kept = [item.prefix for item in workspace.generations("chat") if not item.is_present]
        assert len(kept) == 1
        assert [contents(prefix), contents(kept[0])] in (states, states[::-1]), "each state is whole, byte for byte"

    _kill_all_over(workspace, ["env", "rollback", "chat"], check, lambda: None)
    _assert_whole(workspace, imports=["greeter"])


def test_unpack(make_workspace: MakeWorkspace, requirements: Path, tmp_path: Path) -> None:
    a = make_workspace("a")
    b = make_workspace("b/with/a/longer/path")
    archive = tmp_path / "chat.tar.zst"
    a.pack(a.create("chat", f"python={python_here()}", files=[requirements]), archive)

    def check() -> None:
        if b.settings.prefix_of("chat").exists():
            _assert_whole(b, imports=["greeter", "needs_greeter"])

    _kill_all_over(b, ["unpack", str(archive)], check, lambda: _remove_if_there(b))


def test_two_creates_of_one_name_one_wins_the_other_says_so(workspace: Workspace) -> None:
    command = program(workspace, "create", "-n", "chat", f"python={python_here()}")
    both = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(3)
    ]
    ends = [(process.communicate(timeout=120)[1], process.returncode) for process in both]
    assert sorted(code for _, code in ends) == [0, 1, 1]
    assert all("busy" in text or "exists already" in text for text, code in ends if code == 1)
    _assert_whole(workspace, imports=["pip"])

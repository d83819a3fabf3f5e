"""Nothing is changed under who uses an environment: it is told who that is, waited for, or gone over on request."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, RunCommand, program
from trainenv import EnvironmentBusyError, Workspace, locks
from trainenv.environments.staging import staged


@pytest.fixture
def place(make_workspace: MakeWorkspace, tmp_path: Path) -> Workspace:
    channel = support.make_channel(tmp_path / "channel")
    for name in ("one", "two"):
        support.add_package(channel, name, files={f"share/{name}": f"{name}\n"})
    made = make_workspace(settings=f'channels = ["{channel}"]')
    made.create("chat", "one")
    made.install("chat", "two")
    return made


def _lock(place: Workspace) -> Path:
    return place.settings.envs_dir / ".trainenv/locks/chat.lock"


@pytest.fixture
def user(place: Workspace) -> Iterator[subprocess.Popen[bytes]]:
    """A ``sleep`` that runs in the environment."""
    process = subprocess.Popen(program(place, "run", "-n", "chat", "sleep", "60"))
    try:
        while not any("(sleep 60)" in holder for holder in locks.holders_of(_lock(place))):
            assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.wait()


CHANGES: dict[str, list[str]] = {
    "install": ["install", "-n", "chat", "two"],
    "remove": ["remove", "-n", "chat", "two"],
    "update": ["update", "-n", "chat", "--all"],
    "rollback": ["env", "rollback", "chat"],
    "env remove": ["env", "remove", "chat", "-y"],
    "rename": ["env", "rename", "chat", "new"],
    "repair": ["env", "repair", "chat"],
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_refused_and_force_goes_on(
    place: Workspace, user: subprocess.Popen[bytes], trainenv: RunCommand, change: str
) -> None:
    (place.settings.prefix_of("chat") / "share/two").unlink()  # Something to repair.
    done = trainenv(place, *CHANGES[change])
    assert done.returncode == 1
    assert re.search(rf"busy: used or changed by pid {user.pid} \(sleep 60\)", done.stderr), done.stderr
    done = trainenv(place, *CHANGES[change], "--force")
    assert done.returncode == 0, done.stderr
    assert f"under pid {user.pid} (sleep 60)" in done.stderr
    assert user.poll() is None
    assert [item.name for item in place.environments()] == {"env remove": [], "rename": ["new"]}.get(change, ["chat"])


def test_a_task_is_named_by_its_id(place: Workspace, trainenv: RunCommand) -> None:
    folder = place.settings.methods_dir / "slow"
    folder.mkdir(parents=True)
    (folder / "train.sh").write_text("exec sleep 60\n")
    (folder / "method.yaml").write_text("name: slow\nconda_env: chat\nfile: train.sh\n")
    task = place.start("slow")
    try:
        while not any("(sleep 60)" in holder for holder in locks.holders_of(_lock(place))):
            time.sleep(0.02)
        done = trainenv(place, "remove", "-n", "chat", "two")
        assert done.returncode == 1
        assert re.search(rf"changed by task {task.id}, pid \d+ \(sleep 60\)\.", done.stderr), done.stderr
    finally:
        place.cancel(task)


def test_wait_says_for_whom_and_goes_on_after_it(place: Workspace, user: subprocess.Popen[bytes]) -> None:
    waiting = subprocess.Popen(
        program(place, "remove", "-n", "chat", "two", "--wait"), stderr=subprocess.PIPE, text=True
    )
    assert waiting.stderr is not None
    told = ""
    while "waiting for" not in told:
        told = waiting.stderr.readline()
        assert told, "it ended without waiting"
    assert f"waiting for pid {user.pid} (sleep 60), in environment 'chat'" in told
    assert [item.name for item in place.environment("chat").packages] == ["one", "two"]
    user.kill()
    assert waiting.wait(60) == 0
    waiting.stderr.close()
    assert [item.name for item in place.environment("chat").packages] == ["one"]


def test_an_interrupt_ends_the_waiting(place: Workspace, user: subprocess.Popen[bytes]) -> None:
    waiting = subprocess.Popen(program(place, "env", "rollback", "chat", "--wait"), stderr=subprocess.PIPE, text=True)
    assert waiting.stderr is not None
    while "waiting for" not in waiting.stderr.readline():
        assert waiting.poll() is None
    waiting.send_signal(signal.SIGINT)
    assert "interrupted" in waiting.communicate(timeout=60)[1]
    assert waiting.returncode == 130
    assert [item.name for item in place.environment("chat").packages] == ["one", "two"]


def _elsewhere(work: Callable[[], None]) -> list[BaseException]:
    """Run ``work`` in another thread, to its end; returns what it raised."""
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    return raised


def test_no_force_goes_over_another_change(place: Workspace) -> None:
    with staged(place.settings, "chat", replaces=True):
        raised = _elsewhere(lambda: void(place.remove_packages("chat", "two", force=True)))
        assert isinstance(raised[0], EnvironmentBusyError)
        with pytest.raises(EnvironmentBusyError):
            locks.shared(place.settings, "chat")


def test_under_a_forced_change_there_is_no_second_one(place: Workspace, user: subprocess.Popen[bytes]) -> None:
    with staged(place.settings, "chat", replaces=True, if_busy=locks.IfBusy(force=True)):
        raised = _elsewhere(lambda: void(place.remove_packages("chat", "two", force=True)))
        assert isinstance(raised[0], EnvironmentBusyError)
    assert user.poll() is None
    os.kill(user.pid, 0)


def void(_: object) -> None:
    """For what is called for its effect."""

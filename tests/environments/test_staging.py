from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from trainenv import Workspace, locks
from trainenv.environments.staging import staged, sweep
from trainenv.errors import EnvironmentBusyError, EnvironmentExistsError, EnvironmentNotFoundError


def _fill(prefix: Path, text: str = "one") -> None:
    (prefix / "conda-meta").mkdir(exist_ok=True)
    (prefix / "conda-meta" / "history").write_text("")
    (prefix / "file").write_text(text)


def _staging(place: Workspace) -> list[Path]:
    folder = place.settings.envs_dir / ".trainenv" / "staging"
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def test_what_is_staged_appears_whole_when_the_block_ends(workspace: Workspace) -> None:
    target = workspace.settings.prefix_of("chat")
    with staged(workspace.settings, "chat") as staging:
        _fill(staging.path)
        assert staging.target_prefix == str(target)
        assert not target.exists()
    assert (target / "file").read_text() == "one"
    assert _staging(workspace) == []


def test_an_exception_leaves_nothing(workspace: Workspace) -> None:
    with pytest.raises(RuntimeError), staged(workspace.settings, "chat") as staging:
        _fill(staging.path)
        raise RuntimeError
    assert not workspace.settings.prefix_of("chat").exists()
    assert _staging(workspace) == []


def test_a_failed_change_leaves_every_byte_as_it_was(workspace: Workspace) -> None:
    with staged(workspace.settings, "chat") as staging:
        _fill(staging.path)
    target = workspace.settings.prefix_of("chat")
    with pytest.raises(RuntimeError), staged(workspace.settings, "chat", replaces=True) as staging:
        (staging.path / "file").unlink()
        with (staging.path / "conda-meta" / "history").open("a") as history:
            history.write("changed in place")
        raise RuntimeError
    assert (target / "file").read_text() == "one"
    assert (target / "conda-meta" / "history").read_text() == ""


def test_a_change_is_swapped_in(workspace: Workspace) -> None:
    with staged(workspace.settings, "chat") as staging:
        _fill(staging.path)
    with staged(workspace.settings, "chat", replaces=True) as staging:
        assert (staging.path / "file").read_text() == "one"
        (staging.path / "file").unlink()
        (staging.path / "file").write_text("two")
    assert (workspace.settings.prefix_of("chat") / "file").read_text() == "two"


def test_where_the_file_system_can_not_exchange_two_renames_do(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainenv.environments.generations._RENAME_EXCHANGE", 1 << 20)
    with staged(workspace.settings, "chat") as staging:
        _fill(staging.path)
    with staged(workspace.settings, "chat", replaces=True) as staging:
        (staging.path / "file").unlink()
        (staging.path / "file").write_text("two")
    assert (workspace.settings.prefix_of("chat") / "file").read_text() == "two"
    assert _staging(workspace) == []


def test_a_swap_cut_off_between_its_two_renames_is_undone(workspace: Workspace) -> None:
    with staged(workspace.settings, "chat") as staging:
        _fill(staging.path)
    target = workspace.settings.prefix_of("chat")
    remains = workspace.settings.envs_dir / ".trainenv" / "staging" / "chat-0badcafe"
    (remains / "prefix").mkdir(parents=True)
    (remains / "target").write_text("chat")
    target.rename(remains / "replaced")
    sweep(workspace.settings)
    assert (target / "file").read_text() == "one"
    assert _staging(workspace) == []


def test_names_that_are_there_or_not_there_are_told(workspace: Workspace) -> None:
    with staged(workspace.settings, "chat") as staging:
        _fill(staging.path)
    with pytest.raises(EnvironmentExistsError, match="exists already"), staged(workspace.settings, "chat"):
        raise AssertionError
    with pytest.raises(EnvironmentNotFoundError), staged(workspace.settings, "none", replaces=True):
        raise AssertionError


def test_an_empty_folder_made_beforehand_is_taken(workspace: Workspace) -> None:
    workspace.settings.prefix_of("chat").mkdir(parents=True)
    with staged(workspace.settings, "chat") as staging:
        _fill(staging.path)
    assert (workspace.settings.prefix_of("chat") / "file").is_file()


def test_a_folder_with_other_things_in_it_is_left_alone(workspace: Workspace) -> None:
    target = workspace.settings.prefix_of("chat")
    target.mkdir(parents=True)
    (target / "thesis.doc").write_text("years of work")
    with pytest.raises(EnvironmentExistsError, match="not empty"), staged(workspace.settings, "chat"):
        raise AssertionError
    assert (target / "thesis.doc").read_text() == "years of work"


def test_two_at_once_on_one_name_one_goes_on_the_other_says_so(workspace: Workspace) -> None:
    told: list[str] = []

    def other() -> None:
        try:
            with staged(workspace.settings, "chat"):
                told.append("went on")
        except EnvironmentBusyError as error:
            told.append(str(error))

    with staged(workspace.settings, "chat") as staging:
        _fill(staging.path)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(told) == 1
    assert "busy" in told[0]


def test_nothing_is_changed_under_a_running_command(workspace: Workspace) -> None:
    with staged(workspace.settings, "chat") as staging:
        _fill(staging.path)
    user = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "trainenv",
            "run",
            "-n",
            "chat",
            "--workspace",
            str(workspace.settings.root),
            "sleep",
            "60",
        ]
    )
    try:
        lock = workspace.settings.envs_dir / ".trainenv" / "locks" / "chat.lock"
        while not any("sleep 60" in holder for holder in locks.holders_of(lock)):
            assert user.poll() is None
        with pytest.raises(EnvironmentBusyError, match=rf"pid {user.pid} \(sleep 60\)"):
            workspace.remove("chat")
    finally:
        user.kill()
        user.wait()
    workspace.remove("chat")
    assert workspace.environments() == []


def test_the_remains_of_a_killed_process_are_swept_but_not_its_living_childs(workspace: Workspace) -> None:
    code = f"""
        import subprocess, sys, time
        from trainenv.environments.staging import staged
        from trainenv.settings import load
        with staged(load({str(workspace.settings.root)!r}), "chat") as staging:
            (staging.path / "big").write_text("half")
            child = subprocess.Popen(["sleep", "60"], pass_fds=[staging.lock_descriptor])
            print(child.pid, flush=True)
            time.sleep(60)
    """
    maker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    child = int(maker.stdout.readline())
    maker.kill()
    maker.wait()
    try:
        sweep(workspace.settings)
        assert len(_staging(workspace)) == 1, "the child still writes there"
    finally:
        os.kill(child, signal.SIGKILL)
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2]:
        pass
    sweep(workspace.settings)
    assert _staging(workspace) == []

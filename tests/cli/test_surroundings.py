"""The program where something around it is missing, closed, full or ends it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import MakeWorkspace, RunCommand, program, python_here
from trainenv import EnvironmentBusyError, Workspace, locks

PYTHON = f"python={python_here()}"


def _shell(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script, "bash", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **variables},
    )


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ('"$@" >&-', 0),
        ('"$@" 2>&-', 0),
        ('"$@" <&-', 0),
        ('"$@" >&- 2>&- <&-', 0),
        ('"$@" > /dev/full', 1),
        ('"$@" 2> /dev/full', 0),
    ],
)
def test_closed_and_full_streams(workspace: Workspace, script: str, code: int) -> None:
    done = _shell(script, *program(workspace, "env", "list"))
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1


def test_an_error_keeps_its_code_where_nobody_can_read_it(workspace: Workspace) -> None:
    for script in ('"$@" 2>&-', '"$@" 2> /dev/full', '"$@" >&- 2>&-'):
        assert _shell(script, *program(workspace, "env", "show", "none")).returncode == 1


def test_a_reader_that_goes_away_is_no_success(workspace: Workspace) -> None:
    for command in (["doctor", "--json"], ["doctor"], ["env", "list"], ["create", "-n", "chat", "--help"]):
        done = _shell('"$@" | true; echo ${PIPESTATUS[0]}', *program(workspace, *command))
        assert done.stdout.strip() == str(128 + signal.SIGPIPE)
        assert done.stderr == ""


def test_a_terminal_without_the_characters(workspace: Workspace) -> None:
    done = _shell('"$@"', *program(workspace, "create", "-n", "chat", PYTHON), PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0, done.stderr


def test_a_library_that_the_machine_lacks_is_named(workspace: Workspace, tmp_path: Path) -> None:
    """As with a Python that was moved here from a machine which has it."""
    module = Path(getattr(pytest.importorskip("_sqlite3"), "__file__", ""))
    if b"\0libsqlite3.so" not in (module.read_bytes() if module.is_file() else b""):
        pytest.skip("this Python has SQLite inside")
    (tmp_path / module.name).write_bytes(module.read_bytes().replace(b"\0libsqlite3.so", b"\0libsqlite3.xy"))
    done = _shell('"$@"', *program(workspace, "task", "list"), PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("trainenv: error: this machine lacks libsqlite3.xy")
    assert len(done.stderr.splitlines()) == 1


def test_a_current_folder_that_was_removed(workspace: Workspace, tmp_path: Path) -> None:
    script = f'mkdir "{tmp_path}/gone" && cd "{tmp_path}/gone" && rmdir "{tmp_path}/gone" && "$@"'
    assert _shell(script, *program(workspace, "env", "list")).returncode == 0
    done = _shell(script, *program(None, "env", "list"))
    assert done.returncode == 2
    assert "not there any more" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_a_home_folder(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "a-file"
    file.write_text("")
    done = _shell('"$@"', *program(workspace, "create", "-n", "chat", PYTHON), HOME=str(file / "none"))
    assert done.returncode == 0, done.stderr
    done = _shell('unset HOME TERM; "$@"', *program(workspace, "env", "verify", "chat"))
    assert done.returncode == 0, done.stderr


def test_a_command_gets_the_signals_as_a_shell_has_them(workspace: Workspace) -> None:
    workspace.create("chat", PYTHON)
    done = _shell('"$@"', *program(workspace, "run", "-n", "chat", "grep", "SigIgn", "/proc/self/status"))
    assert int(done.stdout.split()[1], 16) == 0
    done = _shell('"$@" | true; echo ${PIPESTATUS[0]}', *program(workspace, "run", "-n", "chat", "yes"))
    assert done.stdout.strip() == str(128 + signal.SIGPIPE)


def test_an_activation_script_can_not_take_the_command_away(workspace: Workspace, trainenv: RunCommand) -> None:
    made = workspace.create("chat", PYTHON)
    (made.prefix / "etc/conda/activate.d").mkdir(parents=True)
    (made.prefix / "etc/conda/activate.d/a 'b.sh").write_text("set -- hijacked\nfalse\n")
    assert trainenv(workspace, "run", "-n", "chat", "echo", "a  b", "").stdout == "a  b \n"


@pytest.mark.parametrize(
    ("command", "code"), [([""], 2), (["/"], 126), (["none-such"], 127), (["sh", "-c", "kill -9 $$"], -9)]
)
def test_codes_of_commands_that_do_not_run(
    workspace: Workspace, trainenv: RunCommand, command: list[str], code: int
) -> None:
    workspace.create("chat", PYTHON)
    done = trainenv(workspace, "run", "-n", "chat", *command)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == (0 if code < 0 else 1)


def test_too_many_arguments_are_told(workspace: Workspace, tmp_path: Path) -> None:
    made = workspace.create("chat", PYTHON)
    code = (
        "import sys; from trainenv.cli import main\n"
        f"sys.argv = ['trainenv', 'run', '-p', {str(made.prefix)!r}, 'true', *['x' * 100_000] * 40]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 126
    assert "Argument list too long" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_create_that_is_ended_says_so_and_leaves_nothing(
    workspace: Workspace, tmp_path: Path, number: signal.Signals
) -> None:
    workspace.create("warm", PYTHON)
    building = tmp_path / "building"
    project = tmp_path / "slow"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (project / "backend.py").write_text(f"import time\nopen({str(building)!r}, 'w').close()\ntime.sleep(60)\n")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"{project}\n")
    process = subprocess.Popen(
        program(workspace, "create", "-n", "chat", PYTHON, "-r", str(requirements)), stderr=subprocess.PIPE, text=True
    )
    while not building.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    ended = "interrupted" if number is signal.SIGINT else f"ended by {number.name}"
    assert said.splitlines()[-1] == f"trainenv: {ended}: environment 'chat' was not made"
    assert not list(workspace.settings.envs_dir.glob(".trainenv/staging/*/"))
    assert [item.name for item in workspace.environments()] == ["warm"]


def test_a_workspace_that_can_not_be_written(make_workspace: MakeWorkspace, trainenv: RunCommand) -> None:
    place = make_workspace(settings='channels = ["host"]\nenvs_dir = "/proc/none"')
    done = trainenv(place, "create", "-n", "chat", PYTHON)
    assert done.returncode == 1
    assert "/proc/none" in done.stderr
    assert "TRAINENV_ENVS_DIR" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_command_run_by_prefix_blocks_changes_as_well(workspace: Workspace) -> None:
    made = workspace.create("chat", PYTHON)
    process = subprocess.Popen(
        program(None, "run", "-p", str(made.prefix), "sh", "-c", "echo up; exec sleep 60"),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        with pytest.raises(EnvironmentBusyError, match=str(process.pid)):
            workspace.remove("chat")
    finally:
        process.kill()
        process.wait()


def test_who_may_only_read_the_lock_can_hold_it_shared(workspace: Workspace) -> None:
    workspace.create("chat", PYTHON)
    descriptor = locks.shared(workspace.settings, "chat")
    assert descriptor is not None
    try:
        assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        with pytest.raises(EnvironmentBusyError):
            workspace.remove("chat")
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("character", ['"', "\\", "$", "`", ":", "\n", "\udcff"])
def test_a_place_whose_path_would_break_scripts_is_refused(
    make_workspace: MakeWorkspace, trainenv: RunCommand, character: str
) -> None:
    place = make_workspace(f"a{character}b")
    done = trainenv(place, "create", "-n", "chat", PYTHON)
    assert done.returncode == 2
    assert (repr(character) if character.isascii() else "UTF-8") in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("folder", ["with blanks & Anna's", "ünïcödé", "l" * 120])
def test_odd_places(make_workspace: MakeWorkspace, trainenv: RunCommand, wheels: Path, folder: str) -> None:
    place = make_workspace(folder)
    requirements = place.settings.root / "requirements of mine.txt"
    requirements.write_text("greeter<2\n")
    done = trainenv(place, "create", "-n", "chat", PYTHON, "-r", str(requirements))
    assert done.returncode == 0, done.stderr
    prefix = place.settings.prefix_of("chat")
    assert trainenv(place, "run", "-n", "chat", "greet").stdout == f"hello from {prefix}\n"
    assert trainenv(place, "run", "-n", "chat", "pip", "--version").returncode == 0
    assert trainenv(place, "env", "verify", "chat").returncode == 0


IN_A_CALLBACK = """
import os, sys, time, weakref
from trainenv import Workspace, cli

number = int(sys.argv.pop())

def signalled(_):
    os.kill(os.getpid(), number)
    time.sleep(0.01)

def list_for_long(*_, **__):
    thing = set()
    reference = weakref.ref(thing, signalled)
    del thing
    time.sleep(60)

Workspace.task_summaries = list_for_long
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_meets_a_callback_is_not_lost(tmp_path: Path, number: signal.Signals) -> None:
    """Python drops what is raised there, and imports have many such callbacks."""
    command = [sys.executable, "-c", IN_A_CALLBACK, "--workspace", str(tmp_path), "task", "list", str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 128 + number
    assert done.stderr.strip() == f"trainenv: {'interrupted' if number is signal.SIGINT else 'ended by SIGTERM'}"

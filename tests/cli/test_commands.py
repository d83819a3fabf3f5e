from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.conftest import RunCommand, program, python_here
from trainenv import Workspace
from trainenv.cli.app import app

PYTHON = f"python={python_here()}"


def _all_commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _all_commands(command, (*path, name))
        yield (*path, name)


@pytest.mark.parametrize("command", [(), *_all_commands(app)])
def test_every_command_has_help_with_an_example(trainenv: RunCommand, command: tuple[str, ...]) -> None:
    done = trainenv(None, *command, "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert "trainenv " + " ".join(command) in done.stdout


def test_run_imports_nothing_heavy(workspace: Workspace) -> None:
    workspace.create("chat", PYTHON)
    code = (
        "import os, sys\n"
        "def became(*_):\n"
        "    heavy = {'click', 'rich', 'rattler', 'zstandard', 'asyncio', 'json', 'subprocess'}\n"
        "    print(sorted(set(sys.modules) & heavy))\n"
        "    sys.stdout.flush()\n"
        "    os._exit(0)\n"
        "os.execvpe = became\n"
        "from trainenv.cli import main\n"
        f"sys.argv = ['trainenv', 'run', '--workspace', {str(workspace.settings.root)!r}, '-n', 'chat', 'true']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_run_becomes_the_command(workspace: Workspace, trainenv: RunCommand) -> None:
    made = workspace.create("chat", PYTHON)
    code = "import os, sys; print(sys.prefix, os.environ['CONDA_DEFAULT_ENV'], sys.stdin.read()); sys.exit(41)"
    done = trainenv(workspace, "run", "-n", "chat", "python", "-c", code, input="given")
    assert done.stdout.split() == [str(made.prefix), "chat", "given"]
    assert done.returncode == 41
    missing = trainenv(workspace, "run", "-n", "chat", "no-such-program")
    assert missing.returncode == 127
    assert "no-such-program" in missing.stderr


def test_run_passes_signals_to_the_command_itself(workspace: Workspace) -> None:
    workspace.create("chat", PYTHON)
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    command = program(workspace, "run", "-n", "chat", "python", "-c", code)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 7


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_activate_and_deactivate_in_a_shell(workspace: Workspace, shell: str) -> None:
    made = workspace.create("chat", PYTHON)
    (made.prefix / "etc/conda/activate.d").mkdir(parents=True)
    (made.prefix / "etc/conda/activate.d/x.sh").write_text("export FROM_SCRIPT=yes\n")
    activate = " ".join(program(workspace, "activate", "chat"))
    script = (
        f'before="$PATH"; eval "$({activate})"; python -c "import sys; print(sys.prefix)"; '
        'echo "$CONDA_DEFAULT_ENV $FROM_SCRIPT"; trainenv deactivate; '
        '[ "$PATH" = "$before" ] && echo "back ${CONDA_DEFAULT_ENV-unset}"'
    )
    done = subprocess.run([shell, "-euc", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(made.prefix), "chat yes", "back unset"]


def test_the_guides_way_from_create_to_train(
    workspace: Workspace, trainenv: RunCommand, wheels: Path, tmp_path: Path
) -> None:
    def good(*arguments: str) -> str:
        done = trainenv(workspace, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    requirements = tmp_path / "requirements.txt"
    requirements.write_text("greeter<2\n")
    good("create", "-n", "chat", PYTHON, "-y")
    assert json.loads(good("install", "-n", "chat", "-r", str(requirements), "--json"))["name"] == "chat"
    assert "greeter" in {item["name"] for item in json.loads(good("list", "-n", "chat", "--json"))}
    assert json.loads(good("env", "list", "--json"))[0]["python"].startswith(python_here())
    assert json.loads(good("env", "show", "chat", "--json"))["status"] == "ready"
    archive = tmp_path / "chat.tar.zst"
    assert json.loads(good("pack", "-n", "chat", "-o", str(archive), "--json"))["name"] == "chat"
    shown = json.loads(good("inspect", str(archive), "--verify", "--json"))
    assert shown["python"].startswith(python_here())
    assert shown["host_needs"]
    good("unpack", str(archive), "-n", "copy")
    assert json.loads(good("env", "verify", "copy", "--json"))["ok"] is True
    prefix = workspace.settings.prefix_of("copy")
    assert good("run", "-n", "copy", "greet") == f"hello from {prefix}\n"
    good("env", "remove", "chat", "-y")

    folder = workspace.settings.methods_dir / "small"
    folder.mkdir(parents=True)
    (folder / "method.yaml").write_text(
        "name: small\nconda_env: copy\nfile: train.py\nparameters: {epochs: {type: integer, default: 1}}\n"
    )
    (folder / "train.py").write_text(
        "import argparse, greeter\n"
        "parser = argparse.ArgumentParser(); parser.add_argument('--epochs', type=int)\n"
        "for epoch in range(parser.parse_args().epochs): print(f'\\r{epoch}%\\repoch={epoch} loss={1 / (epoch + 1)}')\n"
    )
    assert [item["name"] for item in json.loads(good("method", "list", "--json"))] == ["small"]
    assert "small is ready" in good("method", "validate", "small")
    assert "--set epochs=1" in good("method", "show", "small")
    assert "epoch=1 loss=0.5" in good("train", "small", "--set", "epochs=2")
    task = json.loads(good("task", "list", "--json"))[0]
    assert task["metrics"]["loss"] == 0.5
    assert json.loads(good("task", "show", task["id"], "--json"))["exit_code"] == 0
    assert "epoch=0 loss=1.0" in good("task", "logs", task["id"])
    started = good("train", "small", "--detach")
    identifier = json.loads(good("task", "list", "--json"))[0]["id"]
    assert identifier in started
    for follow in (), ("-f",):
        assert good("task", "logs", identifier, *follow) == "epoch=0 loss=1.0\n"
    assert good("task", "logs", identifier, "--raw") == "\n0%\nepoch=0 loss=1.0\n"  # Python reads "\r" as a line's end.


def test_ctrl_c_cancels_the_task(workspace: Workspace) -> None:
    workspace.create("chat", PYTHON)
    folder = workspace.settings.methods_dir / "long"
    folder.mkdir(parents=True)
    (folder / "method.yaml").write_text("name: long\nconda_env: chat\nfile: train.py\n")
    (folder / "train.py").write_text("import time\nprint('up')\ntime.sleep(60)\n")
    process = subprocess.Popen(program(workspace, "train", "long"), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert workspace.tasks()[0].status == "cancelled"


def test_a_closed_terminal_does_not_end_the_task(workspace: Workspace) -> None:
    workspace.create("chat", PYTHON)
    folder = workspace.settings.methods_dir / "long"
    folder.mkdir(parents=True)
    (folder / "method.yaml").write_text("name: long\nconda_env: chat\nfile: train.py\n")
    (folder / "train.py").write_text("import time\nprint('up')\ntime.sleep(1)\nprint('end')\n")
    process = subprocess.Popen(
        program(workspace, "train", "long"), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    os.killpg(process.pid, signal.SIGHUP)
    process.wait(timeout=20)
    deadline = time.monotonic() + 20
    while workspace.tasks()[0].active and time.monotonic() < deadline:
        time.sleep(0.05)
    task = workspace.tasks()[0]
    assert task.status == "done"
    assert task.log_file.read_text() == "up\nend\n"


def test_doctor_finds_this_machines_interpreters(workspace: Workspace, trainenv: RunCommand) -> None:
    done = trainenv(workspace, "doctor", "--json")
    shown = json.loads(done.stdout)
    assert shown["host"]["machine"] == os.uname().machine
    found = shown["findings"]
    assert any(item["name"] == "host channel" and python_here() in item["text"] for item in found)
    assert {"workspace", "disk", "uv"} <= {item["name"] for item in found}

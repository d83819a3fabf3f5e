"""Each mistake gets one line on standard error with the next step, exit 1 or 2, and leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import support
from tests.archives.conftest import make_prefix
from tests.conftest import RunCommand, program, python_here
from trainenv import Workspace

PYTHON = f"python={python_here()}"


@pytest.fixture
def method(workspace: Workspace) -> str:
    folder = workspace.settings.methods_dir / "small"
    folder.mkdir(parents=True)
    (folder / "train.py").write_text("print('loss=0.5')\n")
    (folder / "method.yaml").write_text(
        "name: small\nconda_env: chat\nfile: train.py\n"
        "parameters:\n  epochs: {type: integer, default: 1, minimum: 1, maximum: 9}\n"
    )
    return "small"


def _one_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("✓", "✗", " "))]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("trainenv: error: ")
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["env", "show", "none"], 1, ["no environment 'none'", "env list"]),
        (["run", "-n", "none", "python"], 1, ["no environment 'none'", "env list"]),
        (["pack", "-n", "none"], 1, ["no environment 'none'"]),
        (["list", "-p", "/nowhere"], 1, ["/nowhere is not an environment", "env list"]),
        (["env", "verify"], 2, ["-n NAME or -p PREFIX"]),
        (["env", "show", "a", "-n", "b"], 2, ["name one environment"]),
        (["method", "show", "none"], 2, ["no method 'none'"]),
        (["train", "small", "--set", "epoch=3"], 2, ["epoch", "epochs"]),
        (["train", "small", "--set", "epochs=many"], 2, ["epochs", "many"]),
        (["train", "small", "--set", "epochs=10"], 2, ["epochs", "9"]),
        (["train", "small", "--set", "epochs"], 2, ["KEY=VALUE"]),
        (["train", "small"], 1, ["environment 'chat'", "trainenv create -n chat"]),
        (["task", "show", "none"], 1, ["none"]),
        (["create", "-n", "a/b", PYTHON], 2, ["'a/b'", "letters"]),
        (["create", "-n", "a b", PYTHON], 2, ["'a b'", "letters"]),
        (["create", "-n", "..", PYTHON], 2, ["'..'", "letters"]),
        (["create", PYTHON], 2, ["-n NAME"]),
        (["create", "-n", "new", "python=3.2"], 1, ["3.2", python_here()]),
        (["create", "-n", "new", PYTHON, "no-such-package"], 1, ["no-such-package", "trainenv pip install"]),
        (["create", "-n", "new", "py@thon"], 2, ["py@thon"]),
        (["create", "-n", "new", PYTHON, "-r", "/nowhere.txt"], 2, ["/nowhere.txt", "No such file"]),
        (["unpack", "/nowhere.tar.zst"], 1, ["/nowhere.tar.zst"]),
        (["inspect", "/nowhere.tar.zst"], 1, ["/nowhere.tar.zst"]),
        (["creat"], 2, ["Did you mean 'create'"]),
        (["create", "--nmae", "x"], 2, ["--nmae", "create --help"]),
        (["run", "-n"], 2, ["-n needs a value"]),
        (["run", "-n", "x"], 2, ["no command"]),
    ],
)
def test_mistakes(
    workspace: Workspace, method: str, trainenv: RunCommand, arguments: list[str], code: int, words: list[str]
) -> None:
    done = trainenv(workspace, *arguments)
    assert _one_line(done)
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert done.returncode == code
    assert workspace.environments() == []
    assert workspace.tasks() == []
    assert not list(workspace.settings.envs_dir.glob(".trainenv/staging/*/"))


def test_a_name_that_exists(workspace: Workspace, trainenv: RunCommand) -> None:
    workspace.create("chat", PYTHON)
    line = _one_line(trainenv(workspace, "create", "-n", "chat", PYTHON))
    assert "'chat' exists already" in line
    assert "env remove chat" in line


def test_binary_data_given_as_requirements(workspace: Workspace, trainenv: RunCommand, tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_bytes(bytes(range(256)))
    assert "binary data" in _one_line(trainenv(workspace, "create", "-n", "x", PYTHON, "-r", str(file)))
    assert workspace.environments() == []


def test_an_environment_yml_given_as_requirements_is_taken_as_what_it_is(
    workspace: Workspace, trainenv: RunCommand, tmp_path: Path
) -> None:
    file = tmp_path / "requirements_x.txt"
    file.write_text(f"name: other\ndependencies: ['{PYTHON}']\n")
    assert trainenv(workspace, "create", "-n", "chat", "-r", str(file)).returncode == 0
    assert [item.name for item in workspace.environments()] == ["chat"]


def test_no_package_index(
    workspace: Workspace, trainenv: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("some-package-that-must-be-fetched\n")
    monkeypatch.setenv("PIP_INDEX_URL", support.refusing())
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    done = trainenv(workspace, "create", "-n", "chat", PYTHON, "-r", str(file))
    assert "index can't be reached" in _one_line(done)
    assert done.returncode == 1
    assert workspace.environments() == []


@pytest.mark.parametrize("command", ["unpack", "inspect"])
def test_a_pipe_is_no_archive_and_nobody_waits_for_it(
    workspace: Workspace, trainenv: RunCommand, tmp_path: Path, command: str
) -> None:
    pipe = tmp_path / "chat.tar.zst"
    os.mkfifo(pipe)
    done = trainenv(workspace, command, str(pipe))
    assert f"{pipe} can't be read: it is a pipe" in _one_line(done)
    assert done.returncode == 1


def test_nobody_waits_for_a_pipe_beside_an_archive_either(
    workspace: Workspace, trainenv: RunCommand, tmp_path: Path
) -> None:
    workspace.create("chat", PYTHON)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = trainenv(workspace, "pack", "-n", "chat", "-o", str(tmp_path / "delta.tar.zst"), "--against", str(pipe))
    assert f"{pipe} is neither an archive nor a manifest of trainenv: it is a pipe" in _one_line(done)
    (tmp_path / "signers").write_text("")
    done = trainenv(workspace, "unpack", str(pipe), "--allowed-signers", str(tmp_path / "signers"))
    assert str(pipe) in _one_line(done)
    assert done.returncode == 1


def test_what_to_do_next_can_be_pasted_into_a_shell(workspace: Workspace, trainenv: RunCommand, tmp_path: Path) -> None:
    workspace.create("chat", PYTHON)
    done = trainenv(workspace, "pack", "-n", "chat", "-o", str(tmp_path / "my chat.tar.zst"))
    assert "trainenv unpack 'my chat.tar.zst'" in done.stdout


def test_a_cut_archive(workspace: Workspace, trainenv: RunCommand, tmp_path: Path) -> None:
    archive = tmp_path / "chat.tar.zst"
    workspace.pack(workspace.create("chat", PYTHON), archive)
    whole = archive.read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        archive.write_bytes(whole[:length])
        done = trainenv(workspace, "unpack", str(archive), "-n", "copy")
        assert str(archive) in _one_line(done)
        assert done.returncode == 1
    assert [item.name for item in workspace.environments()] == ["chat"]


@pytest.mark.parametrize("command", ["create", "unpack", "pack"])
def test_a_full_disk(workspace: Workspace, shared_cache: Path, tmp_path: Path, command: str) -> None:
    """In a mount namespace of its own, where a small disk is mounted over ``envs_dir``."""
    archive = tmp_path / "chat.tar.zst"
    made = workspace.create("chat", PYTHON)
    workspace.pack(made, archive)
    small = tmp_path / "small-disk"
    small.mkdir()
    own = tmp_path / "second"
    own.mkdir()
    (own / "trainenv.toml").write_text(f'channels = ["host"]\ncache_dir = "{shared_cache}"\nenvs_dir = "{small}"\n')
    second = Workspace(own)
    arguments = {
        "create": program(second, "create", "-n", "x", PYTHON),
        "unpack": program(second, "unpack", str(archive), "-n", "x"),
        "pack": program(workspace, "pack", "-n", "chat", "-o", f"{small}/x.tar.zst"),
    }[command]
    size = "1m" if command == "pack" else "16m"
    script = f'mount -t tmpfs -o size={size} tmpfs "$0" && "$@"; code=$?; ls -A "$0" "$0"/.trainenv/staging; exit $code'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(small), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    line = next(line for line in done.stderr.splitlines() if line.startswith("trainenv: error: "))
    assert "space" in line or "MB left" in line
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert "x" not in done.stdout.split(), done.stdout
    assert not any(name.startswith("x-") for name in done.stdout.split()), done.stdout


def test_errors_are_json_free_and_results_are_json(workspace: Workspace, trainenv: RunCommand) -> None:
    done = trainenv(workspace, "env", "list", "--json")
    assert json.loads(done.stdout) == []
    done = trainenv(workspace, "env", "show", "none", "--json")
    assert done.stdout == ""
    assert done.returncode == 1


def test_names_from_elsewhere_do_not_command_the_terminal(
    workspace: Workspace, trainenv: RunCommand, tmp_path: Path
) -> None:
    prefix = make_prefix(tmp_path / "chat")
    shutil.rmtree(prefix / "share")
    os.mkfifo(prefix / "lib/\x1b[2Jpipe")
    packed = trainenv(workspace, "pack", "-p", str(prefix), "-o", str(tmp_path / "chat.tar"))
    host = json.loads(trainenv(workspace, "doctor", "--json").stdout)
    host["host"]["name"] = "machine\x1b]0;b\x07"
    (tmp_path / "host.json").write_text(json.dumps(host))
    shown = trainenv(workspace, "inspect", str(tmp_path / "chat.tar"), "--against-host", str(tmp_path / "host.json"))
    refused = trainenv(workspace, "inspect", str(tmp_path / "\x1b[31mred"))
    assert "lib/\\x1b[2Jpipe is neither" in packed.stderr
    assert "machine\\x1b]0;b\\x07" in shown.stdout
    assert "\\x1b[31mred can't be read" in refused.stderr
    assert "\x1b" not in packed.stderr + shown.stdout + refused.stderr

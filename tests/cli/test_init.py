"""``trainenv init``: what it writes into start-up files, and what shells make of it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import MakePrefix, terminal
from tests.conftest import RunCommand, program
from trainenv import Workspace

FILES = {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/config.fish"}


@pytest.fixture(autouse=True)
def config_in_home(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own_home / ".config"))
    monkeypatch.delenv("ZDOTDIR", raising=False)


@pytest.mark.parametrize("shell", list(FILES))
def test_a_new_shell_knows_activate_and_completion(
    workspace: Workspace, make_prefix: MakePrefix, trainenv: RunCommand, own_home: Path, shell: str
) -> None:
    make_prefix("chat_models")
    file = own_home / FILES[shell]
    file.parent.mkdir(parents=True, exist_ok=True)
    prompt = "function fish_prompt; echo -n 'at> '; end\n" if shell == "fish" else "PS1='at> '\n"
    file.write_text(prompt + ("autoload -U compinit; compinit\n" if shell == "zsh" else ""))
    assert trainenv(None, "init", shell).returncode == 0
    variables = os.environ | {"TRAINENV_HOME": str(workspace.settings.root)}
    with terminal([shell, "-i"], variables) as tty:
        tty.expect("at> ")
        tty.type("trainenv activate chat\t")
        tty.expect("chat_models ?")
        tty.say("")
        tty.expect(r"\(chat_models\) at> ")
        tty.say("prog")
        tty.expect("program of chat_models")
        tty.say("trainenv deactivate")
        tty.expect(r"(?<!\) )at> ")
        tty.say("trainenv env list")
        tty.expect("chat_models")


@pytest.mark.parametrize("shell", list(FILES))
def test_a_starting_shell_starts_nothing_of_trainenv(
    trainenv: RunCommand, own_home: Path, tmp_path: Path, shell: str
) -> None:
    trainenv(None, "init", shell)
    file = own_home / FILES[shell]
    spy = tmp_path / "python"
    spy.write_text(f"#!/bin/sh\necho started >> {tmp_path}/starts\n")
    spy.chmod(0o755)
    assert sys.executable in file.read_text()
    file.write_text(file.read_text().replace(sys.executable, str(spy)))
    subprocess.run([shell, "-i", "-c", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert not (tmp_path / "starts").exists()
    subprocess.run([shell, "-i", "-c", "trainenv list"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert (tmp_path / "starts").exists()


@pytest.mark.parametrize("shell", list(FILES))
def test_a_dry_run_shows_and_changes_nothing_and_reverse_leaves_no_trace(
    trainenv: RunCommand, own_home: Path, shell: str
) -> None:
    file = own_home / FILES[shell]
    shown = trainenv(None, "init", shell, "--dry-run").stdout
    assert "+# >>> trainenv initialize >>>" in shown
    assert not file.exists()
    trainenv(None, "init", shell)
    once = file.read_bytes()
    assert "nothing to change" in trainenv(None, "init", shell).stdout
    assert file.read_bytes() == once
    assert "-# >>> trainenv initialize >>>" in trainenv(None, "init", shell, "--reverse", "--dry-run").stdout
    assert file.read_bytes() == once
    trainenv(None, "init", shell, "--reverse")
    assert not file.exists()


def test_conda_s_block_stays_as_it_is(trainenv: RunCommand, own_home: Path) -> None:
    file = own_home / ".bashrc"
    conda = "# mine\n# >>> conda initialize >>>\necho conda\n# <<< conda initialize <<<\nlast line without end"
    file.write_text(conda)
    trainenv(None, "init", "bash")
    assert file.read_text().startswith(conda)
    trainenv(None, "init", "bash", "--reverse")
    assert file.read_text() == conda


def test_links_and_modes_are_kept(trainenv: RunCommand, own_home: Path) -> None:
    kept = own_home / "dotfiles" / "bashrc"
    kept.parent.mkdir()
    kept.write_text("mine\n")
    kept.chmod(0o640)
    (own_home / ".bashrc").symlink_to("dotfiles/bashrc")
    trainenv(None, "init", "bash")
    assert os.readlink(own_home / ".bashrc") == "dotfiles/bashrc"
    assert "trainenv" in kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640
    assert [entry.name for entry in kept.parent.iterdir()] == ["bashrc"]


def test_a_read_only_file_is_left_alone(trainenv: RunCommand, own_home: Path) -> None:
    file = own_home / ".bashrc"
    file.write_text("managed\n")
    file.chmod(0o444)
    done = trainenv(None, "init", "bash")
    assert done.returncode == 1
    assert "read-only" in done.stderr
    assert file.read_text() == "managed\n"


def test_a_damaged_block_is_said_and_not_touched(trainenv: RunCommand, own_home: Path) -> None:
    file = own_home / ".bashrc"
    trainenv(None, "init", "bash")
    damaged = file.read_text().replace("# <<< trainenv initialize <<<\n", "")
    file.write_text(damaged)
    for arguments in (["init", "bash"], ["init", "bash", "--reverse"]):
        done = trainenv(None, *arguments)
        assert done.returncode == 2
        assert "damaged" in done.stderr
    assert file.read_text() == damaged


def test_zsh_is_asked_for_its_folder(trainenv: RunCommand, own_home: Path) -> None:
    (own_home / ".zshenv").write_text('echo noise; ZDOTDIR="$HOME/dots"\n')
    (own_home / "dots").mkdir()
    trainenv(None, "init", "zsh")
    assert "trainenv" in (own_home / "dots" / ".zshrc").read_text()
    assert not (own_home / ".zshrc").exists()


def test_the_shell_in_use_is_the_default(own_home: Path) -> None:
    command = " ".join(program(None, "init"))
    subprocess.run(["zsh", "-f", "-c", f"{command}; true"], check=True, capture_output=True)
    assert (own_home / ".zshrc").exists()
    assert not (own_home / ".bashrc").exists()


def test_doctor_tells_the_guides_two_cases(workspace: Workspace, own_home: Path) -> None:
    from trainenv.environments import initialised

    bashrc, zshrc = own_home / ".bashrc", own_home / ".zshrc"
    bashrc.write_text("# >>> conda initialize >>>\n# <<< conda initialize <<<\n")
    zshrc.write_text("")
    found = {name: (state, text) for name, state, text in initialised.findings()}
    assert found["bash"][0] == "ok"
    assert f"conda is already initialised in {bashrc}" in found["bash"][1]
    assert f"conda is not initialised in {zshrc}" in found["zsh"][1]
    assert "trainenv init zsh" in found["zsh"][1]
    assert "fish" not in found

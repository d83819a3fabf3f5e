"""Activation in real shells: nested, undone exactly, beside conda's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import MakePrefix
from tests.conftest import program
from trainenv import Workspace

POSIX = [["bash", "--norc"], ["dash"], ["busybox", "sh"], ["zsh", "-f"]]
AWKWARD = "it's \"two\"\nlines, $HOME `id` \\ \\' !! ${x} *\t\n"

_POSIX_JOURNEY = """
set -eu
PS1='at> '
env -0 > "$1/before"
eval "$({activate} outer)"
echo "[$PS1] $(prog), ${{ONLY_OUTER-none}}, ${{FROM_SCRIPT-none}}"; env -0 > "$1/outer"
trainenv activate inner
echo "[$PS1] $(prog), ${{ONLY_OUTER-none}}, ${{FROM_SCRIPT-none}}"; env -0 > "$1/inner"
trainenv deactivate
echo "[$PS1] $(prog), ${{ONLY_OUTER-none}}, ${{FROM_SCRIPT-none}}"; env -0 > "$1/outer_again"
trainenv deactivate
echo "[$PS1] $(command -v prog || echo none), ${{ONLY_OUTER-none}}, ${{FROM_SCRIPT-none}}"; env -0 > "$1/after"
"""

_FISH_JOURNEY = """
function fish_prompt; echo -n 'at> '; end
env -0 > $argv[1]/before
{activate} outer | source
function tell; set -q $argv[1]; and echo $$argv[1]; or echo none; end
echo '['(fish_prompt)']' (prog), (tell ONLY_OUTER), (tell FROM_SCRIPT); env -0 > $argv[1]/outer
trainenv activate inner
echo '['(fish_prompt)']' (prog), (tell ONLY_OUTER), (tell FROM_SCRIPT); env -0 > $argv[1]/inner
trainenv deactivate
echo '['(fish_prompt)']' (prog), (tell ONLY_OUTER), (tell FROM_SCRIPT); env -0 > $argv[1]/outer_again
trainenv deactivate
echo '['(fish_prompt)']' (command -v prog; or echo none), (tell ONLY_OUTER), (tell FROM_SCRIPT); env -0 > $argv[1]/after
"""


def _variables(file: Path) -> dict[str, str]:
    pairs = [entry.partition("=") for entry in os.fsdecode(file.read_bytes()).split("\0") if entry]
    return {name: value for name, _, value in pairs if name != "_"}


def _two_environments(make_prefix: MakePrefix) -> None:
    enter = {".sh": "export FROM_SCRIPT=yes\n", ".fish": "set -gx FROM_SCRIPT yes\n"}
    leave = {".sh": "unset FROM_SCRIPT\n", ".fish": "set -e FROM_SCRIPT\n"}
    make_prefix(
        "outer",
        {"BOTH": AWKWARD, "ONLY_OUTER": "set", "EMPTY": ""},
        {f"activate.d/a{end}": text for end, text in enter.items()}
        | {f"deactivate.d/a{end}": text for end, text in leave.items()},
    )
    make_prefix("inner", {"BOTH": "inner's", "WAS_EMPTY": "full"})


@pytest.mark.parametrize("shell", [*POSIX, ["fish"]], ids=lambda shell: shell[0])
def test_activations_nest_and_each_variable_comes_back_exactly(
    workspace: Workspace, make_prefix: MakePrefix, tmp_path: Path, shell: list[str]
) -> None:
    _two_environments(make_prefix)
    journey = _FISH_JOURNEY if shell == ["fish"] else _POSIX_JOURNEY
    script = tmp_path / "journey"
    script.write_text(journey.format(activate=" ".join(program(workspace, "activate"))))
    before = os.environ | {
        "BOTH": "before\n" + AWKWARD,
        "WAS_EMPTY": "",
        "VIRTUAL_ENV": "/some/venv",
        "TRAINENV_HOME": str(workspace.settings.root),
    }
    done = subprocess.run([*shell, script, tmp_path], env=before, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "[(outer) at> ] program of outer, set, yes",
        "[(inner) at> ] program of inner, none, none",
        "[(outer) at> ] program of outer, set, yes",
        "[at> ] none, none, none",
    ]
    outer, inner = _variables(tmp_path / "outer"), _variables(tmp_path / "inner")
    assert (outer["BOTH"], outer["EMPTY"], outer["CONDA_SHLVL"]) == (AWKWARD, "", "1")
    assert (inner["BOTH"], inner["WAS_EMPTY"], inner["CONDA_SHLVL"]) == ("inner's", "full", "2")
    assert "VIRTUAL_ENV" not in outer
    assert _variables(tmp_path / "outer_again") == outer
    assert _variables(tmp_path / "after") == _variables(tmp_path / "before")


# What conda promises of `conda activate PREFIX` and `conda deactivate`, without conda.
_CONDA = """
conda() {
    if [ "$1" = activate ]; then
        eval "export CONDA_PREFIX_${CONDA_SHLVL:-0}='${CONDA_PREFIX-}'"
        PATH="$2/bin:$(printf %s "$PATH" | sed "s#^${CONDA_PREFIX:-/nowhere}/bin:##")"
        export CONDA_PREFIX="$2" CONDA_SHLVL=$(( ${CONDA_SHLVL:-0} + 1 ))
    else
        CONDA_SHLVL=$(( CONDA_SHLVL - 1 ))
        eval "below=\\"\\${CONDA_PREFIX_$CONDA_SHLVL-}\\""
        PATH="$(printf %s "$PATH" | sed "s#$CONDA_PREFIX/bin:#${below:+$below/bin:}#")"
        if [ -n "$below" ]; then export CONDA_PREFIX="$below"; else unset CONDA_PREFIX; fi
        eval "unset CONDA_PREFIX_$CONDA_SHLVL"
    fi
}
state() { echo "$CONDA_SHLVL ${CONDA_PREFIX-none} $(prog 2>/dev/null || echo none)"; }
"""


@pytest.mark.parametrize("shell", POSIX, ids=lambda shell: shell[0])
def test_conda_and_trainenv_undo_each_others_activations(
    workspace: Workspace, make_prefix: MakePrefix, shell: list[str]
) -> None:
    one, two = make_prefix("one"), make_prefix("two")
    script = _CONDA + (
        f'export CONDA_SHLVL=0; eval "$({" ".join(program(workspace, "activate", "one"))})"; state\n'
        f"conda activate {two}; state; conda deactivate; state; conda deactivate; state\n"
        f"conda activate {one}; trainenv activate two; state; conda deactivate; state; trainenv deactivate; state\n"
        f"conda activate {one}; conda activate {two}; trainenv deactivate; state; trainenv deactivate; state\n"
    )
    done = subprocess.run(
        [*shell, "-c", script],
        env=os.environ | {"TRAINENV_HOME": str(workspace.settings.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    in_one, in_none = f"1 {one} program of one", "0 none none"
    assert done.stdout.splitlines() == [
        *(in_one, f"2 {two} program of two", in_one, in_none),
        *(f"2 {two} program of two", in_one, in_none),
        *(in_one, in_none),
    ]


def test_reactivation_takes_up_changed_variables(workspace: Workspace, make_prefix: MakePrefix) -> None:
    prefix = make_prefix("chat", {"OLD": "1"})
    here = " ".join(program(workspace))
    script = (
        f'eval "$({here} activate chat)"; {here} env vars unset -n chat OLD; {here} env vars set -n chat NEW=2\n'
        'trainenv activate chat; echo "$CONDA_SHLVL ${OLD-none} $NEW $PATH"\n'
        'trainenv deactivate; echo "${CONDA_SHLVL-none} ${OLD-none} ${NEW-none} $PATH"\n'
    )
    variables = os.environ | {"PATH": "/usr/bin:/bin", "TRAINENV_HOME": str(workspace.settings.root)}
    done = subprocess.run(["dash", "-c", script], env=variables, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"1 none 2 {prefix}/bin:/usr/bin:/bin",
        "none none none /usr/bin:/bin",
    ]


def test_path_changes_made_meanwhile_are_kept(workspace: Workspace, make_prefix: MakePrefix) -> None:
    make_prefix("chat")
    script = (
        f'eval "$({" ".join(program(workspace, "activate", "chat"))})"; PATH="/mine:$PATH:/last"\n'
        'trainenv deactivate; echo "$PATH"\n'
    )
    done = subprocess.run(
        ["dash", "-c", script],
        env=os.environ | {"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "/mine:/usr/bin:/bin:/last\n", done.stderr


def test_the_wrapper_passes_help_errors_and_everything_else_through(
    workspace: Workspace, make_prefix: MakePrefix
) -> None:
    make_prefix("chat")
    script = (
        f'eval "$({" ".join(program(workspace, "activate", "chat"))})"\n'
        "trainenv activate --help | head -1; trainenv activate nowhere; echo $?\n"
        f"trainenv --workspace {workspace.settings.root} deactivate; echo ${{CONDA_PREFIX-none}}\n"
        "trainenv run -n chat sh -c 'echo activate; exit 3'; echo $?; trainenv deactivate; echo $?\n"
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env=os.environ | {"TRAINENV_HOME": str(workspace.settings.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [
        *("Usage: trainenv activate [OPTIONS] [NAME]", "1", "none"),
        *("activate", "3", "2"),
    ]
    assert "nowhere" in done.stderr
    assert "no environment is active" in done.stderr


def test_a_hostile_folder_name_stays_a_name(workspace: Workspace, tmp_path: Path) -> None:
    prefix = tmp_path / "a $(touch gone) `touch gone` \\$(touch gone) 'q' \"d\""
    (prefix / "conda-meta").mkdir(parents=True)
    command = [sys.executable, "-m", "trainenv", "activate", "-p", str(prefix), "--shell", "bash"]
    code = subprocess.run(command, capture_output=True, check=True).stdout
    (tmp_path / "code").write_bytes(code)
    script = f'PS1="> "; . {tmp_path}/code; echo "${{PS1@P}}"; echo "$CONDA_PREFIX"'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    shown, active = done.stdout.splitlines()
    assert shown.startswith("(a ")
    assert active == str(prefix)
    assert not (tmp_path / "gone").exists()


def test_powershell_code_is_syntax_that_powershell_reads(workspace: Workspace, make_prefix: MakePrefix) -> None:
    import tree_sitter
    import tree_sitter_powershell

    from trainenv.environments.shells import FOLDER

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    make_prefix("chat", {"AWKWARD": AWKWARD + "\u2019;"}, {"activate.d/a.ps1": "", "deactivate.d/a.ps1": ""})
    activate = subprocess.run(
        program(workspace, "activate", "chat", "--shell", "powershell"), capture_output=True, check=True
    ).stdout
    active = os.environ | {"CONDA_PREFIX": str(workspace.settings.envs_dir / "chat"), "CONDA_SHLVL": "1"}
    deactivate = subprocess.run(
        program(workspace, "deactivate", "--shell", "pwsh"), capture_output=True, check=True, env=active
    ).stdout
    assert f"$Env:AWKWARD = '{AWKWARD.replace(chr(39), chr(39) * 2)}\u2019\u2019;'" in activate.decode()
    assert b"Remove-Item -ErrorAction SilentlyContinue Env:CONDA_PREFIX" in deactivate
    for code in (activate, deactivate, *(file.read_bytes() for file in FOLDER.glob("*.ps1"))):
        assert not parser.parse(code).root_node.has_error, code.decode()
    assert parser.parse(b"$Env:A = 'no end").root_node.has_error

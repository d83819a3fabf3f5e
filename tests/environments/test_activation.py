from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from trainenv.environments.activation import environ, launched


def test_the_environments_bin_comes_first_and_conda_variables_are_set(tmp_path: Path) -> None:
    found = environ(tmp_path, "chat", {"PATH": "/usr/bin:/bin", "PYTHONHOME": "/wrong", "KEPT": "1"})
    assert found["PATH"] == f"{tmp_path}/bin:/usr/bin:/bin"
    assert found["CONDA_PREFIX"] == str(tmp_path)
    assert found["CONDA_DEFAULT_ENV"] == "chat"
    assert found["KEPT"] == "1"
    assert "PYTHONHOME" not in found


def test_another_environments_path_is_replaced_not_stacked(tmp_path: Path) -> None:
    first = environ(tmp_path / "a", "a", {"PATH": "/bin"})
    second = environ(tmp_path / "b", "b", first)
    assert second["PATH"] == f"{tmp_path}/b/bin:/bin"
    assert environ(tmp_path / "b", "b", second)["PATH"] == second["PATH"]


def test_variables_of_packages_and_of_the_environment_are_set(tmp_path: Path) -> None:
    (tmp_path / "etc/conda/env_vars.d").mkdir(parents=True)
    (tmp_path / "etc/conda/env_vars.d/a.json").write_text(json.dumps({"FROM": "package", "BOTH": "package"}))
    (tmp_path / "conda-meta").mkdir()
    (tmp_path / "conda-meta/state").write_text(json.dumps({"version": 1, "env_vars": {"BOTH": "environment"}}))
    found = environ(tmp_path, "x", {})
    assert found["FROM"] == "package"
    assert found["BOTH"] == "environment"


def test_activation_scripts_are_sourced_by_a_shell_that_becomes_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "a 'b\"$c" / "etc/conda/activate.d"
    folder.mkdir(parents=True)
    (folder / "2.sh").write_text('export ORDER="$ORDER 2"\n')
    (folder / "1.sh").write_text("export ORDER=1\n")
    (folder / "ignored.fish").write_text("set ORDER 3\n")
    argv, variables = launched(tmp_path / "a 'b\"$c", "a", ["sh", "-c", 'echo "$ORDER" $PPID; exit 7'], os.environ)
    done = subprocess.run(argv, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert done.stdout.split() == ["1", "2", str(os.getpid())]


def test_without_scripts_the_command_stays_as_it_is(tmp_path: Path) -> None:
    argv, variables = launched(tmp_path, "a", ["python", "-V"], {"PATH": "/bin"}, {"MORE": "1"})
    assert argv == ["python", "-V"]
    assert variables == environ(tmp_path, "a", {"PATH": "/bin"}) | {"MORE": "1"}


def test_what_is_active_is_left_by_its_own_scripts_first(tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "in'ner"
    for place, folder, text in [
        (outer, "deactivate.d", 'export SAW="$CONDA_PREFIX $OWN"\nunset CFLAGS\nset --\n'),
        (inner, "activate.d", 'export SAW="$SAW, then $CONDA_PREFIX"\n'),
    ]:
        (place / "etc/conda" / folder).mkdir(parents=True)
        (place / "etc/conda" / folder / "a.sh").write_text(text)
    (inner / "conda-meta").mkdir()
    state = {"version": 1, "env_vars": {"SECRET": "a 'b\" $c\nd", "BOTH": "environment", "NO; NAME": "kept"}}
    (inner / "conda-meta/state").write_text(json.dumps(state))
    base = {"PATH": f"{outer}/bin:/usr/bin:/bin", "CONDA_PREFIX": str(outer), "CONDA_SHLVL": "1", "OWN": "1"}
    base |= {"CFLAGS": "-O3", "PYTHONHOME": "/wrong"}
    shown = "import json, os; print(json.dumps(dict(os.environ)))"
    argv, variables = launched(inner, "inner", [sys.executable, "-c", shown], base, {"BOTH": "task"})
    assert not any("SECRET" in word and "$c" in word for word in argv), "others can read a command line"
    done = subprocess.run(argv, env=variables, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    for shell_own in ("_", "SHLVL", "PWD", "OLDPWD", "LC_CTYPE"):
        found.pop(shell_own, None)
    expected = environ(inner, "inner", base) | {"BOTH": "task", "SAW": f"{outer} 1, then {inner}"}
    del expected["CFLAGS"]
    assert found == expected
    assert found["SECRET"] == "a 'b\" $c\nd"
    assert "PYTHONHOME" not in found

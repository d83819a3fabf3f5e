from __future__ import annotations

import json
from pathlib import Path

from trainenv.environments.activation import command, environ


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
    import os
    import subprocess

    argv = command(tmp_path / "a 'b\"$c", ["sh", "-c", 'echo "$ORDER" $PPID; exit 7'])
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert done.stdout.split() == ["1", "2", str(os.getpid())]


def test_without_scripts_the_command_stays_as_it_is(tmp_path: Path) -> None:
    assert command(tmp_path, ["python", "-V"]) == ["python", "-V"]

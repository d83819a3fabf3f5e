"""Indexes and repositories that ask who we are: told as that, and what opens them is written nowhere."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import support
from tests.conftest import RunCommand, python_here
from trainenv import InstallError, SolveError, Workspace
from trainenv.channels.pypi import pip_settings

USER, SECRET = "reader", "s3cret-Pa55word"
PYTHON = f"python={python_here()}"


@pytest.fixture
def nothing_of_pip(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    pip_settings.cache_clear()
    yield monkeypatch
    pip_settings.cache_clear()


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder that, served, is a PyPI index with one wheel."""
    folder = tmp_path / "index"
    wheel = support.make_wheel(folder / "files", "greeter")
    page = folder / "simple/greeter/index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="../../files/{wheel.name}">{wheel.name}</a>')
    return folder


def _requirements(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "requirements.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


def _refused(place: Workspace, tmp_path: Path, *lines: str) -> str:
    with pytest.raises(InstallError) as error:
        place.create("one", PYTHON, files=[_requirements(tmp_path, *lines)])
    assert place.environments() == []
    assert SECRET not in str(error.value)
    return str(error.value)


def test_an_index_that_refuses_us_is_not_one_without_the_package(
    workspace: Workspace, index: Path, nothing_of_pip: pytest.MonkeyPatch, own_home: Path, tmp_path: Path
) -> None:
    with support.guarded(index, login=(USER, "another")) as server:
        nothing_of_pip.setenv("PIP_INDEX_URL", f"{server.url}/simple")
        pip_settings.cache_clear()
        unknown = _refused(workspace, tmp_path, "greeter")
        nothing_of_pip.setenv("PIP_INDEX_URL", f"{server.address(USER, SECRET)}/simple")
        pip_settings.cache_clear()
        in_address = _refused(workspace, tmp_path, "greeter")
        nothing_of_pip.delenv("PIP_INDEX_URL")
        pip_settings.cache_clear()
        (own_home / ".netrc").write_text(f"machine 127.0.0.1 login {USER} password {SECRET}\n")
        in_netrc = _refused(workspace, tmp_path, f"--index-url {server.url}/simple", "greeter")
        a_file = _refused(workspace, tmp_path, f"greeter @ {server.url}/files/greeter-1.0-py3-none-any.whl")
    for message in (unknown, in_address, in_netrc, a_file):
        assert f"{server.host} refuses us" in message
        assert "401 Unauthorized" in message
    assert "no user and password is known for it" in unknown
    assert f'[credentials."{server.host}"]' in unknown
    assert "user and password of its address" in in_address
    assert "user and password of netrc" in in_netrc


def test_a_keyring_is_asked_when_an_index_refuses_us(
    workspace: Workspace, index: Path, nothing_of_pip: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with support.guarded(index, login=(USER, SECRET)) as server:
        program = tmp_path / "bin/keyring"
        program.parent.mkdir()
        answer = json.dumps({"username": USER, "password": SECRET})
        program.write_text(f'#!/bin/sh\ncase "$*" in *"get {server.host}"*) echo \'{answer}\';; *) exit 1;; esac\n')
        program.chmod(0o755)
        nothing_of_pip.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        nothing_of_pip.setenv("PIP_INDEX_URL", f"{server.url}/simple")
        pip_settings.cache_clear()
        made = workspace.create("one", PYTHON, files=[_requirements(tmp_path, "greeter")])
    assert "greeter" in {package.name for package in made.packages}
    assert support.holders_of_secret(SECRET, workspace.settings.root, workspace.settings.cache_dir) == []


def test_a_store_of_files_says_403_for_what_it_has_not(
    workspace: Workspace, index: Path, nothing_of_pip: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with support.guarded(index) as server, support.served(index, 403) as store:
        nothing_of_pip.setenv("PIP_INDEX_URL", f"{server.url}/simple")
        nothing_of_pip.setenv("PIP_EXTRA_INDEX_URL", f"{store}/simple")
        pip_settings.cache_clear()
        with pytest.raises(SolveError, match="no-such-thing"):
            workspace.create("one", PYTHON, files=[_requirements(tmp_path, "no-such-thing")])
        nothing_of_pip.setenv("PIP_INDEX_URL", f"{store}/simple")
        pip_settings.cache_clear()
        assert "403 Forbidden" in _refused(workspace, tmp_path, "greeter")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder that, served, holds the git repository ``/project.git`` of a Python project."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "project"\nversion = "1.0"\n'
    )
    (source / "backend.py").write_text(
        "import zipfile\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        "    name, info = 'project-1.0-py3-none-any.whl', 'project-1.0.dist-info'\n"
        "    with zipfile.ZipFile(f'{folder}/{name}', 'w') as wheel:\n"
        "        wheel.writestr('project.py', '')\n"
        "        wheel.writestr(f'{info}/METADATA', 'Metadata-Version: 2.1\\nName: project\\nVersion: 1.0\\n')\n"
        "        wheel.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n"
        "        wheel.writestr(f'{info}/RECORD', 'project.py,,\\n')\n"
        "    return name\n"
    )
    served = tmp_path / "served"
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (
        ["git", "init", "--quiet", "."],
        ["git", "add", "."],
        ["git", *identity, "commit", "--quiet", "-m", "first"],
        ["git", "clone", "--quiet", "--bare", ".", str(served / "project.git")],
        ["git", "--git-dir", str(served / "project.git"), "update-server-info"],
    ):
        subprocess.run(command, cwd=source, check=True, capture_output=True)
    return served


@pytest.mark.parametrize("how", ["address", "netrc"])
def test_a_repository_behind_a_password(
    how: str,
    workspace: Workspace,
    repository: Path,
    nothing_of_pip: pytest.MonkeyPatch,
    own_home: Path,
    tmp_path: Path,
    trainenv: RunCommand,
) -> None:
    with support.guarded(repository, login=(USER, SECRET)) as server:
        address = server.address(USER, SECRET) if how == "address" else server.url
        if how == "netrc":
            (own_home / ".netrc").write_text(f"machine 127.0.0.1 login {USER} password {SECRET}\n")
        file = _requirements(tmp_path, f"project @ git+{address}/project.git")
        made = trainenv(workspace, "create", "-n", "one", PYTHON, "-r", str(file))
        assert made.returncode == 0, made.stderr
        again = trainenv(workspace, "install", "-n", "one", "-r", str(file))
        assert again.returncode == 0, again.stderr
        shown = trainenv(workspace, "env", "export", "-n", "one", "--format", "pixi.lock")
    assert SECRET not in "".join(done.stdout + done.stderr for done in (made, again, shown))
    assert f"git+{server.url}/project.git@" in shown.stdout
    assert support.holders_of_secret(SECRET, workspace.settings.root, workspace.settings.cache_dir) == []


def test_a_repository_that_refuses_us(
    workspace: Workspace, repository: Path, nothing_of_pip: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with support.guarded(repository, login=(USER, SECRET)) as server:
        unknown = _refused(workspace, tmp_path, f"project @ git+{server.url}/project.git")
        wrong = _refused(workspace, tmp_path, f"project @ git+{server.address(USER, 'wrong-one')}/project.git")
    assert f"{server.host} refuses us" in unknown
    assert "no user and password is known for it" in unknown
    assert f"{server.host} refuses us" in wrong
    assert "user and password of its address" in wrong

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, RunCommand, python_here
from trainenv import Workspace
from trainenv.environments.environment import Environment
from trainenv.environments.export import FORMATS, format_of
from trainenv.errors import InstallError, TrainenvError, UsageError

PYTHON = f"python={python_here()}"


def _written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def _again(place: Workspace, environment: Environment, format: str, folder: Path, *specs: str) -> Environment:
    """The environment that the export of ``environment`` makes, under the name ``again``."""
    file = _written(folder, "exported", place.export(environment, format))
    return place.create("again", *specs, files=[file])


@pytest.fixture
def chat(workspace: Workspace, wheels: Path, tmp_path: Path) -> Environment:
    """Python from the host channel and two wheels."""
    return workspace.create("chat", PYTHON, files=[_written(tmp_path, "r.txt", "needs_greeter\n")])


@pytest.mark.parametrize("format", ["environment.yml", "pixi.lock"])
def test_an_export_makes_the_same_environment(
    workspace: Workspace, chat: Environment, tmp_path: Path, format: str
) -> None:
    again = _again(workspace, chat, format, tmp_path)
    assert again.packages == chat.packages
    assert workspace.verify(again).problems == []
    assert workspace.export(again, format).replace("name: again", "name: chat") == workspace.export(chat, format)


def test_what_was_asked_for_makes_the_same_environment_again(
    workspace: Workspace, chat: Environment, wheels: Path, tmp_path: Path
) -> None:
    workspace.install("chat", requirements=[str(wheels / "greeter-1.0-py3-none-any.whl")])
    chat = workspace.environment("chat")
    text = workspace.export(chat, from_history=True)
    here = (wheels / "greeter-1.0-py3-none-any.whl").as_uri()
    assert [line.strip(" -") for line in text.splitlines()[4:]] == [
        PYTHON,
        "pip:",
        "needs_greeter",
        f"greeter @ {here}",
    ]
    again = workspace.create("again", files=[_written(tmp_path, "asked.yml", text)])
    assert again.packages == chat.packages
    lock = _written(tmp_path, "pixi.lock", workspace.export(chat, "pixi.lock"))
    copy = workspace.export(workspace.create("copy", files=[lock]), from_history=True)
    assert [line.strip(" -") for line in copy.splitlines()[4:]] == [
        "python",
        "pip:",
        f"greeter @ {here}",
        "needs-greeter",
    ]
    with pytest.raises(UsageError, match="what was asked for"):
        workspace.export(chat, "pixi.lock", from_history=True)


@pytest.mark.parametrize("format", ["requirements.txt", "pylock.toml"])
def test_the_python_half_makes_the_same_environment_with_the_same_python(
    workspace: Workspace, chat: Environment, tmp_path: Path, format: str
) -> None:
    again = _again(workspace, chat, format, tmp_path, f"python=={chat.python}")
    assert again.packages == chat.packages
    assert workspace.export(again, format) == workspace.export(chat, format)


def test_the_two_halves_together_are_the_whole(workspace: Workspace, chat: Environment, tmp_path: Path) -> None:
    halves = [
        _written(tmp_path, "conda", workspace.export(chat, "explicit")),
        _written(tmp_path, "pypi", workspace.export(chat, "pylock.toml")),
    ]
    again = workspace.create("again", files=halves)
    assert again.packages == chat.packages
    assert workspace.export(again, "explicit") == workspace.export(chat, "explicit")
    assert workspace.export(again, "pylock.toml") == workspace.export(chat, "pylock.toml")


def test_a_replaced_conda_package_comes_back_replaced(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    support.make_wheel(wheels, "setuptools", "999.0")
    made = workspace.create("chat", PYTHON, files=[_written(tmp_path, "r.txt", "setuptools>=999\n")])
    for format in ("pixi.lock", "environment.yml"):
        assert _again(workspace, made, format, tmp_path).packages == made.packages
        workspace.remove("again")


@pytest.mark.parametrize("format", ["environment.yml", "requirements.txt", "pixi.lock", "pylock.toml"])
def test_packages_of_another_index_come_back_from_there(
    workspace: Workspace, wheels: Path, tmp_path: Path, format: str
) -> None:
    elsewhere = tmp_path / "else+where"
    support.make_wheel(elsewhere, "rare", "1.0+local")
    file = _written(tmp_path, "r.txt", f"--find-links {elsewhere}\nrare\n")
    made = workspace.create("chat", PYTHON, files=[file])
    specs = [] if format in ("environment.yml", "pixi.lock") else [f"python=={made.python}"]
    again = _again(workspace, made, format, tmp_path, *specs)
    assert again.packages == made.packages
    assert workspace.export(again, "pixi.lock") == workspace.export(made, "pixi.lock"), "the same to the byte"


PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "mine"
version = "1"
"""

BACKEND = """\
import os, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "mine-1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("mine.py", "")
        wheel.writestr("mine-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: mine\\nVersion: 1\\n")
        wheel.writestr("mine-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("mine-1.dist-info/RECORD", "mine.py,,\\n")
    return name

build_editable = build_wheel
"""


def test_projects_checkouts_and_urls_come_back_as_they_were(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    _written(project, "pyproject.toml", PROJECT)
    _written(project, "backend.py", BACKEND)
    repository = tmp_path / "repository"
    shutil.copytree(project, repository)
    for file in repository.iterdir():
        file.write_text(file.read_text().replace("mine", "theirs"))
    git = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    lines = [
        f"-e {project}",
        f"theirs @ git+{repository.as_uri()}",
        f"greeter @ {(wheels / 'greeter-2.0-py3-none-any.whl').as_uri()}",
    ]
    made = workspace.create("chat", PYTHON, files=[_written(tmp_path, "r.txt", "\n".join(lines))])
    assert [item.name for item in made.packages if item.build == "pypi"] == ["greeter", "mine", "theirs"]
    for format in ("pixi.lock", "environment.yml"):
        exported = workspace.export(made, format)
        again = _again(workspace, made, format, tmp_path)
        assert again.packages == made.packages
        assert workspace.export(again, format).replace("name: again", "name: chat") == exported
        workspace.remove("again")


@pytest.fixture
def data(make_workspace: MakeWorkspace, tmp_path: Path) -> tuple[Workspace, Environment, Path]:
    """An environment from a channel on disk, and the channel."""
    channel = support.make_channel(tmp_path / "channel")
    support.add_package(channel, "one", prefix_files={"etc/one.conf": "root = @PREFIX@\n"})
    support.add_package(channel, "two", depends=["one"], files={"share/two": "2"})
    place = make_workspace(settings=f'channels = ["{channel}"]')
    made = place.create("data", "two")
    support.add_package(channel, "one", "9.0")
    return place, made, channel


@pytest.mark.parametrize("format", ["environment.yml", "pixi.lock", "explicit"])
def test_conda_packages_come_back_as_they_were(
    data: tuple[Workspace, Environment, Path], tmp_path: Path, format: str
) -> None:
    place, made, channel = data
    again = _again(place, made, format, tmp_path)
    assert again.packages == made.packages
    assert (again.prefix / "etc/one.conf").read_text() == f"root = {again.prefix}\n"
    assert str(channel) in place.export(made, format)


def test_without_builds_the_versions_stay(data: tuple[Workspace, Environment, Path], tmp_path: Path) -> None:
    place, made, _ = data
    text = place.export(made, "environment.yml", builds=False)
    assert "one==1.0\n" in text
    assert place.create("again", files=[_written(tmp_path, "e.yml", text)]).packages == made.packages


def test_variables_are_exported(make_workspace: MakeWorkspace, tmp_path: Path) -> None:
    channel = support.make_channel(tmp_path / "channel")
    support.add_package(channel, "one")
    place = make_workspace(settings=f'channels = ["{channel}"]')
    text = 'dependencies: [one]\nvariables: {B: "two words", A: "yes"}\n'
    made = place.create("data", files=[_written(tmp_path, "e.yml", text)])
    again = _again(place, made, "environment.yml", tmp_path)
    state = json.loads((again.prefix / "conda-meta/state").read_bytes())
    assert state["env_vars"] == {"A": "yes", "B": "two words"}


def test_an_http_lock_is_rebuilt_without_a_network(
    make_workspace: MakeWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINENV_CACHE_DIR", str(tmp_path / "cache"))
    channel = support.make_channel(tmp_path / "channel")
    support.add_package(channel, "one")
    with support.served(channel) as url:
        place = make_workspace(settings=f'channels = ["{url}"]')
        made = place.create("data", "one")
    assert _again(place, made, "pixi.lock", tmp_path).packages == made.packages


def test_a_wheel_over_http_is_rebuilt_without_a_network(
    make_workspace: MakeWorkspace, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS")
    with support.served(wheels) as url:
        place = make_workspace()
        made = place.create("chat", PYTHON, files=[_written(tmp_path, "r.txt", f"--find-links {url}\ngreeter<2\n")])
    assert url in place.export(made, "pixi.lock")
    assert _again(place, made, "pixi.lock", tmp_path).packages == made.packages


def test_a_host_package_is_found_in_another_workspace_of_this_machine(
    workspace: Workspace,
    make_workspace: MakeWorkspace,
    chat: Environment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = workspace.export(chat, "pixi.lock").replace(str(workspace.settings.cache_dir), "/elsewhere/cache")
    assert "/elsewhere/cache/host" in text
    file = _written(tmp_path, "pixi.lock", text)
    assert workspace.create("again", files=[file]).packages == chat.packages
    monkeypatch.setenv("TRAINENV_CACHE_DIR", str(tmp_path / "cache"))
    other = make_workspace("other")
    again = other.create("again", files=[file])
    assert again.packages == chat.packages
    assert again.channels == ["host"]
    assert "/elsewhere" not in other.export(again, "pixi.lock")


def test_a_host_package_of_another_machine_is_refused_with_what_to_do(
    workspace: Workspace, chat: Environment, tmp_path: Path
) -> None:
    exported = workspace.export(chat, "explicit").replace(str(workspace.settings.cache_dir), "/elsewhere/cache")
    text = re.sub(r"_host_[0-9a-f]{8}\.conda#.*", "_host_00000000.conda", exported)
    with pytest.raises(InstallError) as error:
        workspace.create("again", files=[_written(tmp_path, "list", text)])
    assert "another machine" in str(error.value)
    assert "trainenv pack" in str(error.value)
    assert "environment.yml" in str(error.value)
    assert "\n" not in str(error.value)


def test_requirements_pin_what_conda_brought_too(make_workspace: MakeWorkspace, tmp_path: Path, wheels: Path) -> None:
    channel = support.make_channel(tmp_path / "channel")
    info = f"lib/python{python_here()}/site-packages/brought-3.0.dist-info"
    support.add_package(
        channel, "brought", "3.0", files={f"{info}/METADATA": "Metadata-Version: 2.1\nName: brought\nVersion: 3.0\n"}
    )
    place = make_workspace(settings=f'channels = ["host", "{channel}"]')
    made = place.create("chat", PYTHON, "brought", files=[_written(tmp_path, "r.txt", "greeter<2\n")])
    lines = place.export(made, "requirements.txt").splitlines()
    assert lines == [f"# Python {made.python}", "brought==3.0", "greeter==1.0"]


def test_what_pip_installed_is_looked_up(workspace: Workspace, wheels: Path) -> None:
    made = workspace.create("chat", PYTHON)
    pip = [made.prefix / "bin/python", "-m", "pip", "install", "--no-index", "--find-links", wheels, "greeter<2"]
    subprocess.run([*map(str, pip)], check=True, capture_output=True)
    changed = workspace.environment("chat")
    assert (wheels / "greeter-1.0-py3-none-any.whl").as_uri() in workspace.export(changed, "pylock.toml")
    (wheels / "greeter-1.0-py3-none-any.whl").unlink()
    with pytest.raises(InstallError, match=r"where greeter==1\.0 in chat came from") as error:
        workspace.export(changed, "pixi.lock")
    assert "\n" not in str(error.value)
    assert "greeter==1.0" in workspace.export(changed, "requirements.txt")


def test_no_export_holds_a_secret(make_workspace: MakeWorkspace, tmp_path: Path) -> None:
    root = tmp_path / "served"
    channel = support.make_channel(root / "t" / "s3cr3t-token" / "channel")
    support.add_package(channel, "one")
    with support.served(root) as url:
        address = url.replace("://", "://me:s3cr3t-word@") + "/t/s3cr3t-token/channel"
        place = make_workspace(settings=f'channels = ["{address}"]')
        made = place.create("data", "one")
        for format in FORMATS:
            if format != "pylock.toml":
                assert "s3cr3t" not in place.export(made, format), format
    assert "one" in place.export(made, "explicit")


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("env.yaml", "environment.yml"),
        ("requirements-dev.txt", "requirements.txt"),
        ("explicit.txt", "explicit"),
        ("spec-file.txt", "explicit"),
        ("pixi.lock", "pixi.lock"),
        ("pylock.train.toml", "pylock.toml"),
        ("bom.cdx.json", "sbom"),
    ],
)
def test_a_files_name_tells_the_format(name: str, format: str) -> None:
    assert format_of(f"/some/where/{name}") == format


def test_a_name_that_tells_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="--format"):
        format_of("thing")


def test_the_command_writes_where_it_is_told(
    data: tuple[Workspace, Environment, Path], trainenv: RunCommand, tmp_path: Path
) -> None:
    place, made, _ = data
    printed = trainenv(place, "env", "export", "-n", "data", "--no-builds")
    assert printed.stdout == place.export(made, "environment.yml", builds=False)
    assert printed.returncode == 0
    done = trainenv(place, "env", "export", "data", "-o", str(tmp_path / "explicit.txt"))
    assert (done.stdout, done.returncode) == ("", 0)
    assert (tmp_path / "explicit.txt").read_text() == place.export(made, "explicit")
    told = trainenv(place, "env", "export", "data", "--format", "requirements.txt")
    assert "has no place for one, two" in told.stderr
    refused = trainenv(place, "env", "export", "data", "-o", str(tmp_path / "none" / "explicit.txt"))
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr


def test_an_environment_without_python_has_no_pylock(data: tuple[Workspace, Environment, Path]) -> None:
    place, made, _ = data
    with pytest.raises(TrainenvError, match="no Python"):
        place.export(made, "pylock.toml")


def test_a_lock_whose_channel_is_gone_says_so(data: tuple[Workspace, Environment, Path], tmp_path: Path) -> None:
    place, made, channel = data
    file = _written(tmp_path, "pixi.lock", place.export(made, "pixi.lock"))
    shutil.rmtree(channel)
    with pytest.raises(InstallError, match="is not there"):
        place.create("again", files=[file])

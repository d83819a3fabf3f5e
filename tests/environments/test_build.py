from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, program, python_here
from trainenv import ChannelError, EnvironmentNotFoundError, InterpreterError, SolveError, Workspace
from trainenv.environments.ownership import snapshot
from trainenv.environments.records import conda_records
from trainenv.errors import EnvironmentExistsError, InstallError, SpecificationError
from trainenv.progress import SilentReporter

PYTHON = f"python={python_here()}"


def _requirements(folder: Path, *lines: str) -> Path:
    file = folder / "requirements.txt"
    file.write_text("\n".join(lines))
    return file


def _output(prefix: Path, *command: str) -> str:
    done = subprocess.run([prefix / "bin" / command[0], *command[1:]], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _contents(prefix: Path) -> dict[str, bytes]:
    return {path: os.readlink(f) if (f := prefix / path).is_symlink() else f.read_bytes() for path in snapshot(prefix)}  # type: ignore[misc]


def test_python_and_requirements_make_an_environment(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    made = workspace.create("chat", PYTHON, files=[_requirements(tmp_path, "needs_greeter")])
    assert {"python", "pip", "setuptools", "greeter", "needs-greeter"} <= {item.name for item in made.packages}
    assert made.python is not None
    assert made.python.startswith(python_here())
    assert _output(made.prefix, "greet") == f"hello from {made.prefix}"
    assert workspace.verify(made).problems == []
    assert workspace.verify(made).imported == ["needs_greeter"]


def test_an_environment_yml_names_everything(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    file = tmp_path / "requirements_chat.txt"
    file.write_text(
        f"name: chat\nchannels: [host]\nvariables: {{MODE: chat}}\n"
        f"dependencies: ['{PYTHON}', pip, {{pip: [greeter<2]}}]\n"
    )
    made = workspace.create(None, files=[file])
    assert made.name == "chat"
    done = subprocess.run(
        program(None, "run", "-p", str(made.prefix), "sh", "-c", "echo $MODE; greet"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["chat", f"hello from {made.prefix}"]


def test_the_lock_names_every_package_with_its_hash(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    file = _requirements(tmp_path, "greeter<2")
    first = workspace.create("one", PYTHON, files=[file])
    second = workspace.create("two", PYTHON, files=[file])
    lock = (first.prefix / "conda-meta/trainenv/pixi.lock").read_bytes()
    assert lock == (second.prefix / "conda-meta/trainenv/pixi.lock").read_bytes()
    from rattler import LockFile

    read = LockFile.from_path(first.prefix / "conda-meta/trainenv/pixi.lock").default_environment()
    assert read is not None
    text = lock.decode()
    assert text.count("sha256: ") == 4
    assert "/host" in text
    assert "greeter" in text


def test_install_adds_and_keeps_what_is_there(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    made = workspace.create("chat", PYTHON, files=[_requirements(tmp_path, "needs_greeter")])
    support.make_wheel(wheels, "extra", requires=["greeter"])
    changed = workspace.install("chat", files=[_requirements(tmp_path, "extra")])
    versions = {item.name: item.version for item in changed.packages}
    assert versions["greeter"] == "1.0", "needs_greeter wants it below 2"
    assert versions["extra"] == "1.0"
    assert workspace.verify(changed).problems == []
    assert _output(made.prefix, "greet") == f"hello from {made.prefix}"


@pytest.mark.parametrize("requirement", ["greeter>=2", "no-such-package-at-all", "not a requirement"])
def test_a_failed_install_leaves_every_byte(
    workspace: Workspace, wheels: Path, tmp_path: Path, requirement: str
) -> None:
    made = workspace.create("chat", PYTHON, files=[_requirements(tmp_path, "needs_greeter")])
    before = _contents(made.prefix)
    with pytest.raises((SolveError, InstallError, SpecificationError)) as error:
        workspace.install("chat", files=[_requirements(tmp_path, requirement)])
    assert "\n" not in str(error.value)
    assert _contents(made.prefix) == before


def test_a_damaged_wheel_fails_the_create_and_leaves_nothing(
    workspace: Workspace, wheels: Path, tmp_path: Path
) -> None:
    (wheels / "greeter-1.0-py3-none-any.whl").write_bytes(b"PK not a wheel")
    with pytest.raises((InstallError, SolveError), match="greeter"):
        workspace.create("chat", PYTHON, files=[_requirements(tmp_path, "greeter<2")])
    assert workspace.environments() == []
    assert not workspace.settings.prefix_of("chat").exists()


def test_a_pypi_package_that_replaces_a_conda_one_is_owned_by_pypi(
    workspace: Workspace, wheels: Path, tmp_path: Path
) -> None:
    support.make_wheel(wheels, "setuptools", "999.0")
    made = workspace.create("chat", PYTHON, files=[_requirements(tmp_path, "setuptools>=999")])
    shown = [item for item in made.packages if item.name == "setuptools"]
    assert [(item.version, item.build) for item in shown] == [("999.0", "pypi")]
    assert workspace.verify(made).problems == []
    listed = {path for record in conda_records(made.prefix) for path in record.files}
    assert all(os.path.lexists(made.prefix / path) for path in listed)
    again = workspace.install("chat", "pip")
    assert [item.version for item in again.packages if item.name == "setuptools"] == ["999.0"]


def test_conda_packages_are_added_from_a_channel(make_workspace: MakeWorkspace, tmp_path: Path) -> None:
    channel = support.make_channel(tmp_path / "channel")
    support.add_package(channel, "one", prefix_files={"etc/one.conf": "root = @PREFIX@\n"})
    support.add_package(channel, "two", depends=["one"])
    place = make_workspace(settings=f'channels = ["{channel}"]')
    made = place.create("data", "one")
    assert (made.prefix / "etc/one.conf").read_text() == f"root = {made.prefix}\n"
    changed = place.install("data", "two")
    assert [item.name for item in changed.packages] == ["one", "two"]
    history = (made.prefix / "conda-meta/history").read_text()
    assert "# update specs: ['two', 'one']" in history


def test_the_prefix_can_be_one_that_a_container_sees(make_workspace: MakeWorkspace, tmp_path: Path) -> None:
    channel = support.make_channel(tmp_path / "channel")
    support.add_package(channel, "one", prefix_files={"etc/one.conf": "root = @PREFIX@\n"})
    place = make_workspace(settings=f'channels = ["{channel}"]\nvisible_as = "/opt/conda/envs"')
    made = place.create("data", "one")
    assert (made.prefix / "etc/one.conf").read_text() == "root = /opt/conda/envs/data\n"


def test_conda_finds_the_environment(workspace: Workspace, own_home: Path) -> None:
    made = workspace.create("chat", PYTHON)
    assert (own_home / ".conda/environments.txt").read_text().splitlines() == [str(made.prefix)]
    assert all(os.stat(record.path).st_mode & 0o044 for record in conda_records(made.prefix))
    workspace.remove("chat")
    assert (own_home / ".conda/environments.txt").read_text() == ""
    assert not made.prefix.exists()


def test_host_stands_in_when_no_channel_can_be_reached(make_workspace: MakeWorkspace) -> None:
    address = support.refusing()
    place = make_workspace(settings=f'channels = ["{address}"]')
    reporter = place.reporter
    assert isinstance(reporter, SilentReporter)
    made = place.create("chat", PYTHON)
    assert any(address in notice and "host" in notice for notice in reporter.notices)
    assert address in str(made.host_fallback)
    assert {item.channel for item in made.packages} == {"host"}
    assert "/host" in (made.prefix / "conda-meta/trainenv/pixi.lock").read_text()


def test_host_fallback_can_be_forbidden(make_workspace: MakeWorkspace) -> None:
    place = make_workspace(settings=f'channels = ["{support.refusing()}"]\nhost_fallback = false')
    with pytest.raises(ChannelError, match=r"can't be reached .* \[mirrors\]"):
        place.create("chat", PYTHON)
    assert place.environments() == []


def test_what_host_does_not_have_fails_with_the_channels_reason(make_workspace: MakeWorkspace) -> None:
    address = support.refusing()
    place = make_workspace(settings=f'channels = ["{address}"]')
    with pytest.raises(ChannelError, match=address):
        place.create("chat", PYTHON, "cudatoolkit")


def test_a_python_that_this_machine_lacks_lists_those_it_has(make_workspace: MakeWorkspace) -> None:
    place = make_workspace(settings=f'channels = ["{support.refusing()}"]')
    with pytest.raises(InterpreterError) as error:
        place.create("chat", "python=3.2")
    assert python_here() in str(error.value)
    assert "can't be reached" in str(error.value)
    assert "channels" in str(error.value)


def test_one_channel_of_two_that_does_not_answer_is_an_error(make_workspace: MakeWorkspace, tmp_path: Path) -> None:
    channel = support.make_channel(tmp_path / "channel")
    address = support.refusing()
    place = make_workspace(settings=f'channels = ["{channel}", "{address}"]')
    with pytest.raises(ChannelError, match=address):
        place.create("chat", PYTHON)


def test_wrong_requests_are_told_before_anything_is_made(workspace: Workspace) -> None:
    with pytest.raises(SpecificationError, match="nothing was asked for"):
        workspace.create("chat")
    with pytest.raises(EnvironmentNotFoundError):
        workspace.install("none", "python")
    workspace.create("chat", PYTHON)
    with pytest.raises(EnvironmentExistsError, match="exists already"):
        workspace.create("chat", PYTHON)


def test_verify_names_what_was_changed_lost_or_left(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    made = workspace.create("chat", PYTHON, files=[_requirements(tmp_path, "greeter<2")])
    site = made.prefix / "lib" / f"python{python_here()}"
    module = site / "site-packages/greeter/__init__.py"
    module.unlink()
    module.write_text("raise ImportError('broken')\n")
    (site / "encodings/__init__.py").unlink()
    (made.prefix / "leftover.txt").write_text("see /old/place/of/env/bin\n")
    problems = "\n".join(workspace.verify(made, old_prefixes=["/old/place/of/env"]).problems)
    assert "greeter/__init__.py of greeter was changed" in problems
    assert "encodings/__init__.py of python is missing" in problems
    assert "leftover.txt holds the prefix /old/place/of/env" in problems
    assert "bin/python does not start" in problems


def test_an_unreadable_record_makes_an_environment_damaged(workspace: Workspace) -> None:
    made = workspace.create("chat", PYTHON)
    record = next((made.prefix / "conda-meta").glob("pip-*.json"))
    record.write_text("{")
    shown = workspace.environment("chat").to_json()
    assert json.dumps(shown)
    assert shown["status"] == "damaged"

"""A conflict is told as who asks for what, and where that stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, RunCommand, python_here
from trainenv import SolveError, Workspace

PYTHON = f"python={python_here()}"


@pytest.fixture
def place(make_workspace: MakeWorkspace, tmp_path: Path) -> Workspace:
    channel = support.make_channel(tmp_path / "channel")
    for version in ("1.0", "2.0"):
        support.add_package(channel, "one", version)
    support.add_package(channel, "two", depends=["one <2"])
    support.add_package(channel, "three", depends=["one >=2"])
    support.add_package(channel, "four", depends=["nowhere >=2"])
    support.add_package(channel, "gpu", depends=["__cuda >=99"])
    return make_workspace(settings=f'channels = ["{channel}", "host"]')


def _details(place: Workspace, *specs: str, files: list[Path] | None = None) -> tuple[str, ...]:
    with pytest.raises(SolveError) as error:
        place.create("chat", *specs, files=files or [])
    assert place.environments() == []
    return error.value.details


def test_conda_packages_that_exclude_each_other(place: Workspace) -> None:
    assert _details(place, "two", "three") == (
        "you ask for three",
        "three 1.0 needs one >=2",
        "you ask for two",
        "two 1.0 needs one <2",
    )


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("five", "you ask for five: no channel has it"),
        ("one=3", "you ask for one 3.*: no channel has it"),
        ("four", "four 1.0 needs nowhere >=2: no channel has it"),
        ("gpu", "gpu 1.0 needs __cuda >=99: this machine has none"),
    ],
)
def test_conda_packages_that_are_not_there(place: Workspace, spec: str, line: str) -> None:
    assert line in _details(place, spec)


def test_the_lines_of_an_environment_yml_are_named(place: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "environment.yml"
    file.write_text("name: chat\ndependencies:\n  - one\n  - two  # the old one\n  - three=1\n")
    details = _details(place, files=[file])
    assert f"{file} line 4: two  # the old one" in details
    assert f"{file} line 5: three=1" in details


def test_pypi_packages_that_exclude_each_other(place: Workspace, wheels: Path, tmp_path: Path) -> None:
    support.make_wheel(wheels, "needs_new_greeter", requires=["greeter>=2"])
    included = tmp_path / "more.txt"
    included.write_text("needs_new_greeter\n")
    file = tmp_path / "requirements.txt"
    file.write_text("# what we need\n-r more.txt\nNeeds.Greeter>=1\n")
    details = _details(place, PYTHON, files=[file])
    assert "needs-greeter needs greeter<2" in [line.replace("needs-greeter>=1", "needs-greeter") for line in details]
    assert "needs-new-greeter needs greeter>=2" in details
    assert f"{file} line 3: Needs.Greeter>=1" in details
    assert f"{included} line 1: needs_new_greeter" in details


def test_the_pip_section_of_an_environment_yml_is_named(place: Workspace, wheels: Path, tmp_path: Path) -> None:
    file = tmp_path / "environment.yml"
    file.write_text(f"name: chat\ndependencies:\n  - {PYTHON}\n  - pip:\n    - needs_greeter\n    - greeter>=2\n")
    details = _details(place, files=[file])
    assert f"{file} line 6: greeter>=2" in details
    assert "you ask for greeter>=2" in details


def test_a_pypi_package_that_is_nowhere(place: Workspace, wheels: Path, tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("greeter\nnowhere-at-all\n")
    details = _details(place, PYTHON, files=[file])
    assert "nowhere-at-all: no package index has it" in details
    assert f"{file} line 2: nowhere-at-all" in details


def test_the_command_line_prints_them_below_its_line(place: Workspace, trainenv: RunCommand) -> None:
    done = trainenv(place, "create", "-n", "chat", "two", "three")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.lstrip().startswith(("✓", "✗"))]
    assert lines[0].startswith("trainenv: error: no set of packages")
    assert "  two 1.0 needs one <2" in lines
    assert "Traceback" not in done.stderr


def test_a_version_that_is_nowhere(place: Workspace, wheels: Path, tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# one\ngreeter==9 \\\n  --hash=sha256:" + "0" * 64 + "\n")
    details = _details(place, PYTHON, files=[file])
    assert "there is no version of greeter==9" in details
    assert f"{file} line 2: greeter==9" in details


def test_a_constraint_that_excludes_what_is_asked_for(place: Workspace, wheels: Path, tmp_path: Path) -> None:
    (tmp_path / "limits").mkdir()
    limits = tmp_path / "limits/constraints.txt"
    limits.write_text("# of the team\ngreeter>=2\n")
    file = tmp_path / "requirements.txt"
    file.write_text("-c limits/constraints.txt\nneeds_greeter\n")
    details = _details(place, PYTHON, files=[file])
    assert "needs-greeter needs greeter<2, and greeter>=2 is wanted as well" in details
    assert f"{file} line 2: needs_greeter" in details
    assert f"{limits} line 2: greeter>=2" in details


def test_a_file_that_is_gone(place: Workspace, wheels: Path, tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("greeter\nodd @ file:///not/there/odd-1.0-py3-none-any.whl\n")
    details = _details(place, PYTHON, files=[file])
    assert f"{file} line 2: odd @ file:///not/there/odd-1.0-py3-none-any.whl" in details


@pytest.mark.parametrize(
    ("line", "words"), [("this is : bad", "found `i`"), ("-r nowhere.txt", "No such file"), ("a==1 b", "Trailing `b`")]
)
def test_a_line_that_can_not_be_read(
    place: Workspace, wheels: Path, tmp_path: Path, trainenv: RunCommand, line: str, words: str
) -> None:
    included = tmp_path / "more.txt"
    included.write_text(f"greeter\n# é\n{line}\n")
    file = tmp_path / "requirements.txt"
    file.write_text("-r more.txt\n")
    done = trainenv(place, "create", "-n", "chat", PYTHON, "-r", str(file))
    assert done.returncode == 2
    assert f"{included} line 3 can't be read: " in done.stderr
    assert words in done.stderr
    assert place.environments() == []

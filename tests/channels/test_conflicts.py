"""A conflict is told as who asks for what, and where that stands."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, RunCommand, python_here
from trainenv import InstallError, SolveError, Workspace
from trainenv.channels.conflicts import pypi_lines
from trainenv.errors import InterpreterError, SpecificationError

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
    assert details.count(f"{file} line 6: greeter>=2") == 1
    assert "you ask for greeter>=2" in details
    file.write_text(f"dependencies:\n- {PYTHON}\n- pip:\n  - greeter\n  - 'greeter >> 2'\n")
    with pytest.raises(SpecificationError, match=f"{file} line 5: 'greeter >> 2' can't be read: "):
        place.create("chat", files=[file])


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
    assert lines[0].startswith("trainenv: error: no set of packages satisfies the specification. Channels asked: ")
    assert lines.count("  two 1.0 needs one <2") == 1
    assert done.stderr.count("one <2") == 1, "nothing is said twice"
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
    assert f"{included} line 3: " in done.stderr
    assert "can't be read: " in done.stderr
    assert words in done.stderr
    assert place.environments() == []


def test_the_lines_of_a_pyproject_toml_are_named(place: Workspace, wheels: Path, tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(
        '[project]\nname = "My.Project"\nversion = "1"\ndependencies = ["needs_greeter >= 1", "setuptools"]\n'
        "[dependency-groups]\ndev = [\n  'greeter>=2',  # newer\n]\n"
    )
    details = _details(place, PYTHON, files=[Path(f"{file}[dev]")])
    assert f"{file} line 4: needs_greeter >= 1" in details
    assert f"{file} line 7: greeter>=2" in details
    assert not [line for line in details if "setuptools" in line]


def test_a_python_that_this_machine_has_not(place: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "environment.yml"
    file.write_text("channels: [host]\ndependencies:\n  - pip\n  - python=2.7\n")
    with pytest.raises(InterpreterError) as error:
        place.create("chat", files=[file])
    assert error.value.details == (f"{file} line 4: python=2.7",)


def test_a_package_that_can_not_be_built(place: Workspace, wheels: Path, tmp_path: Path) -> None:
    project = tmp_path / "broken-1.0"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "broken"\nversion = "1.0"\n'
    )
    (project / "backend.py").write_text("def build_wheel(*_):\n    raise OSError('no compiler for Fortran here')\n")
    with tarfile.open(wheels / "broken-1.0.tar.gz", "w:gz") as archive:
        archive.add(project, "broken-1.0")
    file = tmp_path / "requirements.txt"
    file.write_text("greeter\nbroken\n")
    with pytest.raises(InstallError) as error:
        place.create("chat", PYTHON, files=[file])
    assert error.value.message == "broken 1.0 could not be built"
    assert error.value.cause == "OSError: no compiler for Fortran here"
    assert error.value.details[-1] == f"{file} line 2: broken"
    assert place.environments() == []


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "Because pandas>=3.1.0rc0 depends on numpy{python_full_version < '3.14'}>=2.0.2 and all of:\n"
            "    pandas>=3.0.0,<=3.0.3\n    pandas>=3.0.5,<=3.0.6\ndepend on numpy>=1.26.0, we can conclude "
            "that all of:\n    pandas>=3.0.0,<=3.0.3\n    pandas>=3.0.5\ndepend on numpy>=1.26.0. And because "
            "pandas==3.0.4 was yanked\n(reason: slow, and wrong), we can conclude that pandas>=3.0.0 depends on c.\n"
            "And because proj depends on numpy==1.20.0 and pandas>=3, we can conclude that it is unsatisfiable.\n",
            [
                "pandas>=3.1.0rc0 needs numpy>=2.0.2",
                "pandas>=3.0.0,<=3.0.3 | >=3.0.5,<=3.0.6 needs numpy>=1.26.0",
                "pandas==3.0.4 was yanked (reason: slow, and wrong)",
                "you ask for numpy==1.20.0",
                "you ask for pandas>=3",
            ],
        ),
        (
            "Because the current Python version (3.11.7) does not satisfy Python>=3.13 and a==9 depends on "
            "Python>=3.13, we can conclude that a==9 cannot be used. And because only a<=9 is available and "
            "you require a>=9, we can conclude that your requirements are unsatisfiable.",
            [
                "the current Python version (3.11.7) does not satisfy Python>=3.13",
                "a==9 needs Python>=3.13",
                "only a<=9 is available",
                "you ask for a>=9",
            ],
        ),
    ],
)
def test_each_reason_of_uv_is_one_line(text: str, lines: list[str]) -> None:
    assert pypi_lines(text, {"proj"}) == lines

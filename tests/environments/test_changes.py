"""Remove, update, pip install: each is whole or not at all, and none breaks what is installed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, python_here
from tests.environments.test_generations import contents
from trainenv import InstallError, SolveError, SpecificationError, TrainenvError, Workspace
from trainenv.environments.preview import Plan
from trainenv.environments.records import conda_name, conda_records, read_note
from trainenv.errors import DeclinedError

PYTHON = f"python={python_here()}"


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = support.make_channel(tmp_path / "channel")
    support.add_package(folder, "base", files={"share/base": "1\n"})
    support.add_package(folder, "middle", files={"share/middle": "1\n"}, depends=["base"])
    support.add_package(folder, "top", files={"share/top": "1\n"}, depends=["middle"])
    support.add_package(folder, "alone", files={"share/alone": "1\n"})
    return folder


@pytest.fixture
def place(make_workspace: MakeWorkspace, channel: Path) -> Workspace:
    return make_workspace(settings=f'channels = ["{channel}", "host"]')


def _names(place: Workspace, name: str = "chat") -> set[str]:
    return {package.name for package in place.environment(name).packages}


def _versions(place: Workspace, name: str = "chat") -> dict[str, str]:
    return {package.name: package.version for package in place.environment(name).packages}


def _new_base(channel: Path, version: str = "2.0") -> None:
    support.add_package(channel, "base", version, files={"share/base": f"{version}\n"})


# Removing


def test_what_depends_on_a_conda_package_goes_with_it(place: Workspace) -> None:
    prefix = place.create("chat", "top", "alone").prefix
    place.remove_packages("chat", "middle")
    assert _names(place) == {"alone"}, "top needs it, and base was there for it alone"
    assert not (prefix / "share/base").exists()
    history = (prefix / "conda-meta/history").read_text()
    assert "# remove specs: ['base', 'middle', 'top']" in history
    assert "# update specs: ['alone']" in history.splitlines()[-1]
    place.install("chat", "base")
    assert _names(place) == {"alone", "base"}, "what was removed is not asked for any more"


def test_what_was_asked_for_stays_when_its_dependent_goes(place: Workspace) -> None:
    place.create("chat", "top", "base")
    place.remove_packages("chat", "top")
    assert _names(place) == {"base"}


def test_removing_asks_no_channel(place: Workspace, channel: Path) -> None:
    place.create("chat", "top", "alone")
    subprocess.run(["rm", "-rf", channel], check=True)
    place.remove_packages("chat", "alone")
    assert _names(place) == {"top", "middle", "base"}


def test_pypi_packages_go_with_what_depends_on_them(place: Workspace, wheels: Path) -> None:
    made = place.create("chat", PYTHON, "alone")
    place.install("chat", requirements=["needs_greeter"])
    assert {"greeter", "needs-greeter"} <= _names(place)
    place.remove_packages("chat", "greeter")
    assert _names(place).isdisjoint({"greeter", "needs-greeter"})
    assert not (made.prefix / "bin/greet").exists()
    assert not (made.prefix / "conda-meta/trainenv/pylock.toml").exists(), "nothing of PyPI's is left"
    assert "greeter" not in (made.prefix / "conda-meta/trainenv/pixi.lock").read_text()
    assert place.verify(place.environment("chat")).problems == []


def test_one_command_removes_from_both(place: Workspace, wheels: Path) -> None:
    place.create("chat", PYTHON, "top", "alone")
    place.install("chat", requirements=["greeter"])
    place.remove_packages("chat", "Greeter", "top")
    assert {"alone", "python"} <= _names(place)
    assert _names(place).isdisjoint({"greeter", "top", "middle", "base"})
    assert place.verify(place.environment("chat")).problems == []


def test_a_package_that_is_both_ways_goes_both_ways(place: Workspace, channel: Path, wheels: Path) -> None:
    support.add_package(channel, "greeter", files={"share/greeter-of-conda": "1\n"})
    made = place.create("chat", PYTHON, "greeter")
    place.install("chat", requirements=["greeter"])
    shown = [item.build for item in place.environment("chat").packages if item.name == "greeter"]
    assert shown == ["0", "pypi"]
    place.remove_packages("chat", "greeter")
    assert "greeter" not in _names(place)
    assert not (made.prefix / "share/greeter-of-conda").exists()


def test_a_pypi_package_that_had_replaced_condas_leaves_no_trace(place: Workspace, wheels: Path) -> None:
    support.make_wheel(wheels, "setuptools", "999.0")
    place.create("chat", PYTHON)
    place.install("chat", requirements=["setuptools>=999"])
    place.remove_packages("chat", "setuptools")
    assert "setuptools" not in _names(place)
    assert read_note(place.environment("chat").prefix, "environment.json")["replaced"] == {}
    assert place.verify(place.environment("chat")).problems == []


@pytest.mark.parametrize(
    ("package", "error", "words"),
    [
        ("python", SolveError, "python can't be removed .*env remove"),
        ("alnoe", SpecificationError, "no package 'alnoe' .* Did you mean 'alone'"),
        ("greeter", SpecificationError, "no package 'greeter'"),
    ],
)
def test_what_can_not_be_removed(place: Workspace, package: str, error: type[TrainenvError], words: str) -> None:
    made = place.create("chat", PYTHON, "alone")
    before = contents(made.prefix)
    with pytest.raises(error, match=words.replace(" .*", ".*")):
        place.remove_packages("chat", package)
    assert contents(made.prefix) == before


# Updating


def test_update_brings_the_newest_of_what_is_named(place: Workspace, channel: Path) -> None:
    prefix = place.create("chat", "top", "alone").prefix
    _new_base(channel)
    support.add_package(channel, "alone", "3.0")
    place.update("chat", "base")
    assert _versions(place) == {"top": "1.0", "middle": "1.0", "base": "2.0", "alone": "1.0"}
    assert (prefix / "share/base").read_text() == "2.0\n"
    place.update("chat")
    assert _versions(place)["alone"] == "3.0"


def test_update_stays_within_what_was_asked_for(place: Workspace, channel: Path) -> None:
    place.create("chat", "base=1", "alone")
    _new_base(channel)
    place.update("chat", "base")
    place.update("chat")
    assert _versions(place)["base"] == "1.0"


def test_update_of_pypi_packages_breaks_none_that_is_there(place: Workspace, wheels: Path) -> None:
    place.create("chat", PYTHON)
    place.install("chat", requirements=["greeter<2", "needs_greeter"])
    support.make_wheel(wheels, "greeter", "1.5")
    support.make_wheel(wheels, "needs_greeter", "1.1", requires=["greeter<2"])
    place.update("chat", "greeter")
    assert _versions(place)["greeter"] == "1.5", "2.0 is there as well, and needs_greeter forbids it"
    assert _versions(place)["needs-greeter"] == "1.0"
    place.update("chat")
    assert _versions(place)["needs-greeter"] == "1.1"
    assert place.verify(place.environment("chat")).problems == []


def test_a_conda_change_that_breaks_a_pypi_package_is_refused(place: Workspace, channel: Path, wheels: Path) -> None:
    site = f"lib/python{python_here()}/site-packages"

    def add(version: str) -> None:
        metadata = f"Metadata-Version: 2.1\nName: shared\nVersion: {version}\n"
        support.add_package(
            channel,
            "shared",
            version,
            files={f"{site}/shared.py": "", f"{site}/shared-{version}.dist-info/METADATA": metadata},
        )

    add("1.0")
    for version in ("1.0", "2.0"):
        support.make_wheel(wheels, "shared", version)
    support.make_wheel(wheels, "user", requires=["shared<2"])
    made = place.create("chat", PYTHON, "shared")
    place.install("chat", requirements=["user"])
    assert [item.build for item in place.environment("chat").packages if item.name == "shared"] == ["0"]
    add("2.0")
    before = contents(made.prefix)
    with pytest.raises(SolveError, match=r"would break .*user requires shared<2, but 2.0 is installed"):
        place.update("chat", "shared")
    assert contents(made.prefix) == before
    with pytest.raises(SolveError, match="would break"):
        place.install("chat", "shared=2")
    assert contents(made.prefix) == before


def test_what_is_not_there_can_not_be_updated(place: Workspace) -> None:
    place.create("chat", "alone")
    with pytest.raises(SpecificationError, match="no package 'base'"):
        place.update("chat", "base")


def test_python_does_not_change_under_pypi_packages(place: Workspace, channel: Path, wheels: Path) -> None:
    support.add_package(channel, "python", "3.99.0")
    place.create("chat", "host::python=" + python_here())
    place.install("chat", requirements=["greeter"])
    place.update("chat")
    assert _versions(place)["python"].startswith(python_here())


# pip install


def test_pip_install_takes_names_files_and_folders(place: Workspace, wheels: Path, tmp_path: Path) -> None:
    place.create("chat", PYTHON)
    wheel = support.make_wheel(tmp_path / "elsewhere", "local")
    place.install("chat", requirements=["greeter<2", str(wheel)])
    shown = {package.name: package for package in place.environment("chat").packages}
    assert shown["greeter"].version == "1.0"
    assert shown["local"].url == wheel.as_uri()
    place.install("chat", requirements=["greeter"])
    assert _versions(place)["greeter"] == "1.0", "what is there is good enough"
    place.install("chat", requirements=["greeter"], upgrade=True)
    assert _versions(place)["greeter"] == "2.0"


def test_an_editable_project_is_used_where_it_lies(
    place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "mine.py").write_text("VALUE = 1\n")
    (project / "pyproject.toml").write_text(_PROJECT)
    (project / "backend.py").write_text(_BACKEND)
    made = place.create("chat", PYTHON)
    monkeypatch.chdir(project)
    place.install("chat", requirements=["-e ."])
    (project / "mine.py").write_text("VALUE = 2\n")
    code = "import mine; print(mine.VALUE)"
    done = subprocess.run([made.prefix / "bin/python", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2"
    shown = next(package for package in place.environment("chat").packages if package.name == "mine")
    assert (shown.editable, shown.build) == (str(project), "pypi")
    noted = read_note(made.prefix, "environment.json")["projects"]
    assert noted == [{"name": "mine", "version": "1.0", "url": project.as_uri(), "editable": True, "commit": None}]
    assert place.verify(place.environment("chat")).problems == []
    place.install("chat", "alone")
    place.remove_packages("chat", "mine")
    assert "mine" not in _names(place)
    assert read_note(made.prefix, "environment.json")["projects"] == []


_PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "mine"
version = "1.0"
"""

_BACKEND = """
import os, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "mine-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("mine.pth", os.getcwd() + "\\n")
        wheel.writestr("mine-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: mine\\nVersion: 1.0\\n")
        wheel.writestr("mine-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("mine-1.0.dist-info/RECORD", "mine.pth,,\\n")
    return name
"""


def test_a_project_from_git_is_shown_with_its_commit(place: Workspace, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "mine.py").write_text("")
    (project / "pyproject.toml").write_text(_PROJECT)
    (project / "backend.py").write_text(_BACKEND.replace("build_editable", "build_wheel"))
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "one"]):
        subprocess.run([*git, *arguments], cwd=project, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True, check=True)
    place.create("chat", PYTHON)
    place.install("chat", requirements=[f"mine @ git+{project.as_uri()}"])
    shown = next(package for package in place.environment("chat").packages if package.name == "mine")
    assert shown.url == f"git+{project.as_uri()}@{head.stdout.strip()}"


# Who owns what


def test_list_tells_that_a_pypi_package_replaced_condas(place: Workspace, wheels: Path) -> None:
    support.make_wheel(wheels, "setuptools", "999.0")
    made = place.create("chat", PYTHON)
    former = next(package for package in made.packages if package.name == "setuptools")
    place.install("chat", requirements=["setuptools>=999"])
    shown = [package for package in place.environment("chat").packages if package.name == "setuptools"]
    assert [(item.version, item.build) for item in shown] == [("999.0", "pypi")]
    assert shown[0].replaces == f"setuptools {former.version} (host)"
    assert place.verify(place.environment("chat")).problems == []
    place.install("chat", "alone")
    needed = {conda_name(str(spec)) for record in conda_records(made.prefix) for spec in record.content["depends"]}
    there = _names(place) - {"setuptools"}
    assert {name for name in needed if not name.startswith("__")} <= there, "conda finds it consistent as well"


def test_freeze_conda_forbids_to_replace_a_package_of_condas(place: Workspace, wheels: Path) -> None:
    support.make_wheel(wheels, "setuptools", "999.0")
    made = place.create("chat", PYTHON)
    before = contents(made.prefix)
    with pytest.raises(InstallError, match=r"would replace conda's setuptools .* \(by 999.0\)"):
        place.install("chat", requirements=["setuptools>=999"], freeze_conda=True)
    assert contents(made.prefix) == before
    assert not list(place.settings.envs_dir.glob(".trainenv/staging/*/"))


def test_freeze_conda_forbids_to_replace_a_file_of_condas(place: Workspace, channel: Path, wheels: Path) -> None:
    site = f"lib/python{python_here()}/site-packages"
    support.add_package(channel, "plugin", files={f"{site}/common/plugin.py": "of = 'conda'\n"})
    support.make_wheel(wheels, "thief", files={"common/plugin.py": "of = 'pypi'\n"})
    made = place.create("chat", PYTHON, "plugin")
    before = contents(made.prefix)
    with pytest.raises(InstallError, match="would replace files of conda's plugin"):
        place.install("chat", requirements=["thief"], freeze_conda=True)
    assert contents(made.prefix) == before
    place.install("chat", requirements=["thief"])
    assert place.verify(place.environment("chat")).problems == []


def test_a_package_that_lost_its_name_to_pypi_is_listed_once_and_travels(
    make_workspace: MakeWorkspace, place: Workspace, channel: Path, wheels: Path, tmp_path: Path
) -> None:
    site = f"lib/python{python_here()}/site-packages"
    metadata = "Metadata-Version: 2.1\nName: greeter\nVersion: 0.9\n"
    record = "greeter.py,,\ngreeter-0.9.dist-info/METADATA,,\ngreeter-0.9.dist-info/RECORD,,\n"
    files = {
        f"{site}/greeter.py": "",
        f"{site}/greeter-0.9.dist-info/METADATA": metadata,
        f"{site}/greeter-0.9.dist-info/RECORD": record,
        "share/doc/greeter": "conda's own\n",
    }
    support.add_package(channel, "greeter", "0.9", files=files)
    place.create("chat", PYTHON, "greeter")
    made = place.install("chat", requirements=["greeter>=2"])
    shown = [package for package in made.packages if package.name == "greeter"]
    assert [(item.version, item.build, item.replaces) for item in shown] == [("2.0", "pypi", "greeter 0.9 (channel)")]
    assert place.verify(made).problems == []
    place.pack(made, tmp_path / "chat.tar.zst")
    elsewhere = make_workspace("elsewhere").unpack(tmp_path / "chat.tar.zst")
    assert [item.replaces for item in elsewhere.packages if item.name == "greeter"] == ["greeter 0.9 (channel)"]
    assert place.verify(elsewhere).problems == []


# Dry runs


def _planned(plan: Plan) -> set[tuple[str, str]]:
    return {(change.name, change.kind) for change in plan.changes}


def test_what_a_dry_run_tells_is_what_comes(place: Workspace, channel: Path, wheels: Path, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("needs_greeter\n")
    plans: list[Plan] = []

    def no(plan: Plan) -> bool:
        plans.append(plan)
        return False

    with pytest.raises(DeclinedError):
        place.create("chat", PYTHON, "top", files=[requirements], confirm=no)
    assert place.environments() == []
    assert not list(place.settings.envs_dir.glob("*"))
    made = place.create("chat", PYTHON, "top", files=[requirements])
    assert _planned(plans.pop()) == {(package.name, "added") for package in made.packages}
    before = contents(made.prefix)
    _new_base(channel)
    with pytest.raises(DeclinedError):
        place.install("chat", "alone", requirements=["greeter<2"], confirm=no)
    assert _planned(plans.pop()) == {("alone", "added")}
    with pytest.raises(DeclinedError):
        place.update("chat", "base", confirm=no)
    change = plans.pop().changes
    assert [(item.name, item.before and item.before.version, item.after and item.after.version) for item in change] == [
        ("base", "1.0", "2.0")
    ]
    with pytest.raises(DeclinedError):
        place.remove_packages("chat", "greeter", "middle", confirm=no)
    gone = {"greeter", "needs-greeter", "middle", "top", "base"}
    assert _planned(plans.pop()) == {(name, "removed") for name in gone}
    assert contents(made.prefix) == before
    assert place.generations("chat")[0].number == 1
    place.remove_packages("chat", "greeter", "middle", confirm=lambda _: True)
    assert _names(place).isdisjoint(gone)


def test_a_plan_knows_what_is_to_be_fetched(
    make_workspace: MakeWorkspace, channel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Plan] = []
    monkeypatch.setenv("TRAINENV_CACHE_DIR", str(tmp_path / "own-cache"))
    with support.served(channel) as url:
        place = make_workspace(settings=f'channels = ["{url}"]')
        size = next((channel / "noarch").glob("alone-*")).stat().st_size

        def no(plan: Plan) -> bool:
            plans.append(plan)
            return False

        with pytest.raises(DeclinedError):
            place.create("chat", "alone", confirm=no)
        assert plans[0].downloads == {"alone": size}
        assert json.loads(json.dumps(plans[0].to_json()))["download"] == size
        place.create("chat", "alone")
        with pytest.raises(DeclinedError):
            place.create("other", "alone", confirm=no)
        assert plans[1].downloads == {}, "it is in the cache now"


# Failing


@pytest.mark.parametrize("change", ["remove", "update", "pip"])
def test_a_change_that_fails_half_way_leaves_every_byte(
    place: Workspace, channel: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    made = place.create("chat", PYTHON, "top")
    place.install("chat", requirements=["greeter<2"])
    before, states = contents(made.prefix), len(place.generations("chat"))
    _new_base(channel, "2.9")  # which no other test has put into the cache
    if change == "update":
        file = next((channel / "noarch").glob("base-2.9-*"))
        file.write_bytes(file.read_bytes()[:-20])
    if change == "pip":
        (wheels / "needs_greeter-1.0-py3-none-any.whl").write_bytes(b"PK not a wheel")
    if change == "remove":
        record = next(made.prefix.glob("lib/python*/site-packages/greeter-1.0.dist-info/RECORD"))
        before = {path: entry for path, entry in before.items() if not path.endswith("greeter-1.0.dist-info/RECORD")}
        os.unlink(record)
    with pytest.raises(TrainenvError) as error:
        if change == "remove":
            place.remove_packages("chat", "top", "greeter")
        elif change == "update":
            place.update("chat", "base")
        else:
            place.install("chat", requirements=["needs_greeter"])
    assert "\n" not in str(error.value)
    assert contents(made.prefix) == before
    assert len(place.generations("chat")) == states
    assert not list(place.settings.envs_dir.glob(".trainenv/staging/*/"))

"""What conda brings is there for PyPI packages too, whatever its package is called."""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, RunCommand, python_here
from trainenv import InstallError, SolveError, Workspace
from trainenv.environments.cleaning import find_unused
from trainenv.environments.given import Given, of_prefix, write_wheels
from trainenv.environments.preview import Plan
from trainenv.errors import DeclinedError

PYTHON = f"python={python_here()}"
SITE = f"lib/python{python_here()}/site-packages"


def _python_package(
    channel: Path,
    name: str,
    version: str,
    distribution: str | None = None,
    requires: Sequence[str] = (),
    depends: Sequence[str] = (),
    metadata: str = "dist-info/METADATA",
) -> None:
    """A conda package ``name`` of the Python package ``distribution``, None for one without metadata."""
    files = {f"{SITE}/{distribution or name}/__init__.py": f"origin = 'conda'\nversion = {version!r}\n"}
    if distribution:
        lines = [f"Name: {distribution}", f"Version: {version}", *(f"Requires-Dist: {line}" for line in requires)]
        info = f"{SITE}/{distribution}-{version}"
        files[f"{info}.{metadata}"] = "\n".join(["Metadata-Version: 2.1", *lines]) + "\n"
        if metadata == "dist-info/METADATA":
            files[f"{info}.dist-info/RECORD"] = "".join(f"{path.removeprefix(SITE + '/')},,\n" for path in files)
    support.add_package(channel, name, version, files=files, depends=["python", *depends])


@pytest.fixture
def place(make_workspace: MakeWorkspace, tmp_path: Path, wheels: Path) -> Workspace:
    channel = support.make_channel(tmp_path / "channel")
    _python_package(
        channel, "pytorch", "2.3.0", "torch", ["symbolic>=1", "no-such-thing; extra == 'all'"], ["symbolic"]
    )
    _python_package(channel, "symbolic", "1.12", "symbolic")
    _python_package(channel, "own", "7.0", "own")
    _python_package(channel, "old-style", "3.1", "old_style", metadata="egg-info/PKG-INFO")
    _python_package(channel, "bare", "5.0")
    for version in ("2.3.0", "2.4.0"):
        support.make_wheel(wheels, "torch", version, requires=["driver_libraries", "symbolic"])
    support.make_wheel(wheels, "driver_libraries")
    support.make_wheel(wheels, "symbolic", "1.13")
    support.make_wheel(wheels, "lightning", requires=["torch>=2"])
    support.make_wheel(wheels, "newer", requires=["torch>=2.4"])
    support.make_wheel(wheels, "uses_own", requires=["own>=7", "old-style", "bare"])
    return make_workspace(settings=f'channels = ["{channel}", "host"]')


def _requirements(folder: Path, *lines: str) -> Path:
    file = folder / "requirements.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


def _builds(place: Workspace, name: str = "chat") -> dict[str, str]:
    found = {item.name: f"{item.version} {item.build}" for item in place.environment(name).packages}
    return {key: value for key, value in found.items() if key not in ("python", "pip", "setuptools")}


def _asked_by_python(place: Workspace, code: str) -> str:
    done = subprocess.run(
        [place.environment("chat").prefix / "bin/python", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


CONDA = {"pytorch": "2.3.0 0", "symbolic": "1.12 0"}


def test_conda_meets_what_pypi_calls_by_another_name(place: Workspace, tmp_path: Path) -> None:
    made = place.create("chat", PYTHON, "pytorch", files=[_requirements(tmp_path, "lightning", "torch")])
    assert _builds(place) == {**CONDA, "lightning": "1.0 pypi"}
    assert _asked_by_python(place, "import torch; print(torch.origin)") == "conda"
    assert place.verify(made).problems == []
    for lock in ("pixi.lock", "pylock.toml"):
        text = (made.prefix / "conda-meta/trainenv" / lock).read_text()
        assert "/torch-2" not in text
        assert "driver" not in text
    place.install("chat", files=[_requirements(tmp_path, "greeter")])
    assert _builds(place) == {**CONDA, "lightning": "1.0 pypi", "greeter": "2.0 pypi"}


def test_what_no_index_has_is_there(place: Workspace, tmp_path: Path) -> None:
    """One with today's metadata, one with that of old packages, and one with none at all."""
    place.create("chat", PYTHON, "own", "old-style", "bare", files=[_requirements(tmp_path, "uses_own")])
    assert _builds(place) == {"own": "7.0 0", "old-style": "3.1 0", "bare": "5.0 0", "uses-own": "1.0 pypi"}
    place.install("chat", files=[_requirements(tmp_path, "greeter")])
    assert "greeter" in _builds(place)


def test_only_what_must_have_another_version_comes_from_pypi(place: Workspace, tmp_path: Path) -> None:
    file = _requirements(tmp_path, "newer", "own", "symbolic")
    with pytest.raises(InstallError, match=r"conda's torch 2\.3\.0 \(by 2\.4\.0\)"):
        place.create("chat", PYTHON, "pytorch", "own", files=[file], freeze_conda=True)
    assert place.environments() == []
    made = place.create("chat", PYTHON, "pytorch", "own", files=[file])
    assert _builds(place) == {
        "symbolic": "1.12 0",
        "own": "7.0 0",
        "torch": "2.4.0 pypi",
        "driver-libraries": "1.0 pypi",
        "newer": "1.0 pypi",
    }
    assert {item.replaces for item in made.packages if item.name == "torch"} == {"pytorch 2.3.0 (channel)"}
    assert place.verify(made).problems == []


def test_a_package_asked_for_by_url_replaces_condas(place: Workspace, wheels: Path, tmp_path: Path) -> None:
    file = _requirements(tmp_path, f"torch @ {(wheels / 'torch-2.4.0-py3-none-any.whl').as_uri()}", "symbolic")
    place.create("chat", PYTHON, "pytorch", files=[file])
    assert _builds(place) == {"symbolic": "1.12 0", "torch": "2.4.0 pypi", "driver-libraries": "1.0 pypi"}


def test_an_upgrade_asked_for_by_name_replaces_condas(place: Workspace, trainenv: RunCommand) -> None:
    place.create("chat", PYTHON, "symbolic")
    done = trainenv(place, "pip", "install", "-n", "chat", "-U", "symbolic")
    assert done.returncode == 0, done.stderr
    assert _builds(place) == {"symbolic": "1.13 pypi"}


def test_what_nobody_can_meet_is_told(place: Workspace, tmp_path: Path) -> None:
    file = _requirements(tmp_path, "own>=8")
    with pytest.raises(SolveError) as error:
        place.create("chat", PYTHON, "own", files=[file])
    assert f"{file} line 1: own>=8" in error.value.details


def test_a_lock_makes_the_same_again_without_a_network(
    place: Workspace, make_workspace: MakeWorkspace, tmp_path: Path
) -> None:
    place.create(
        "chat", PYTHON, "pytorch", "own", "old-style", "bare", files=[_requirements(tmp_path, "lightning", "uses_own")]
    )
    lock = tmp_path / "pixi.lock"
    lock.write_text(place.export(place.environment("chat"), "pixi.lock"))
    other = make_workspace("other", settings="offline = true")
    other.create("chat", files=[lock])
    assert _builds(other) == _builds(place)
    assert other.export(other.environment("chat"), "pixi.lock") == lock.read_text()


def test_a_dry_run_takes_it_as_given_too(place: Workspace, tmp_path: Path) -> None:
    """Before the packages are fetched their names tell, then what is in them."""
    plans: list[Plan] = []

    def refuse(plan: Plan) -> bool:
        plans.append(plan)
        return False

    def planned(*specs: str, requirement: str) -> set[str]:
        with pytest.raises(DeclinedError):
            place.create("chat", PYTHON, *specs, files=[_requirements(tmp_path, requirement)], confirm=refuse)
        return {change.name for change in plans[-1].changes}

    _python_package(tmp_path / "channel", "never-fetched", "9.0", "never_fetched")
    assert "never-fetched" in planned("never-fetched", requirement="never-fetched>=9")
    place.create("fetched", PYTHON, "pytorch", "own")
    assert planned("pytorch", requirement="lightning") >= {"pytorch", "symbolic", "lightning"}
    assert not planned("pytorch", requirement="lightning") & {"torch", "driver-libraries"}
    assert planned("pytorch", requirement="newer") >= {"torch", "driver-libraries", "newer"}
    assert "pytorch" not in planned("pytorch", requirement="newer")


def test_conda_has_decided_between_its_own(tmp_path: Path) -> None:
    """A recipe may allow what the metadata forbids; the rest of the metadata stands."""
    requires = ("other<2", "fitting>=1; python_version >= '3'", "missing[fast]<9", "not a requirement !")
    one = Given("One.Thing", "1.0", "one-thing", requires, ("fast",))
    brought = {item.key: item for item in (one, Given("other", "2.0", "other"), Given("fitting", "1.5", "fitting"))}
    folder = write_wheels(brought, tmp_path)
    assert write_wheels(brought, tmp_path) == folder
    with zipfile.ZipFile(folder / "one_thing-1.0-py3-none-any.whl") as wheel:
        lines = wheel.read("one_thing-1.0.dist-info/METADATA").decode().splitlines()
    assert [line for line in lines if line.startswith("Requires-Dist")] == [
        "Requires-Dist: other",
        'Requires-Dist: fitting>=1; python_version >= "3"',
        "Requires-Dist: missing[fast]<9",
    ]
    assert "Provides-Extra: fast" in lines


def test_odd_metadata_is_passed_over(tmp_path: Path) -> None:
    records: Mapping[str, str] = {
        "odd": '{"name": "odd", "version": "1", "depends": ["python"], "files": ["lib/python3.9/site-packages/odd.py"],'
        ' "purls": ["pkg:pypi/od-d@1.5", "pkg:conda/odd"]}',
        "data": '{"name": "data", "version": "1", "depends": ["python"], "files": ["share/data"]}',
        "tool": '{"name": "tool", "version": "1", "depends": [], "files": ["lib/python3.9/site-packages/tool.py"]}',
        "strange": '{"name": "strange", "version": "2024a_1b", "depends": ["python"],'
        ' "files": ["lib/python3.9/site-packages/s.py"]}',
    }
    (tmp_path / "conda-meta").mkdir()
    for name, text in records.items():
        (tmp_path / f"conda-meta/{name}.json").write_text(text)
    assert {key: item.version for key, item in of_prefix(tmp_path).items()} == {"od-d": "1.5"}


def test_names_that_no_package_may_have_are_passed_over(tmp_path: Path) -> None:
    for number, name in enumerate(("../../outside", "", "a b", "-x", "good.Name")):
        info = tmp_path / f"lib/python3.9/site-packages/p{number}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\nProvides-Extra: x y\nProvides-Extra: all\n")
        record = tmp_path / f"conda-meta/p{number}.json"
        record.parent.mkdir(exist_ok=True)
        content = {"name": f"p{number}", "version": "1", "files": [str((info / "METADATA").relative_to(tmp_path))]}
        record.write_text(json.dumps(content))
    found = of_prefix(tmp_path)
    assert {key: item.extras for key, item in found.items()} == {"good-name": ("all",)}
    assert [file.name for file in write_wheels(found, tmp_path / "cache").iterdir()] == [
        "good_name-1.0-py3-none-any.whl"
    ]


def test_a_thorough_clean_takes_the_wheels_for_uv(place: Workspace, tmp_path: Path) -> None:
    place.create("chat", PYTHON, "own", files=[_requirements(tmp_path, "own")])
    assert "given" in {item.name for item in find_unused(place.settings, everything=True)}
    assert "given" not in {item.name for item in find_unused(place.settings)}

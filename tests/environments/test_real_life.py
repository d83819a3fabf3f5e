"""What people, pip and other tools have done to environments, and what must come of it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, python_here
from trainenv import SolveError, Workspace
from trainenv.environments.ownership import snapshot
from trainenv.environments.records import conda_records, distributions

PYTHON = f"python={python_here()}"


def _requirements(folder: Path, *lines: str) -> Path:
    file = folder / "requirements.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


def _hashes(prefix: Path) -> dict[str, str]:
    files = (path for path in snapshot(prefix) if not (prefix / path).is_symlink())
    return {path: hashlib.sha256((prefix / path).read_bytes()).hexdigest() for path in files}


def _names(place: Workspace, name: str) -> set[str]:
    return {item.name for item in place.environment(name).packages}


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = support.make_channel(tmp_path / "channel")
    support.add_package(folder, "one", prefix_files={"etc/one.conf": "root = @PREFIX@\n"})
    support.add_package(folder, "two", files={"share/two": "2\n"})
    return folder


@pytest.fixture
def mixed(make_workspace: MakeWorkspace, channel: Path) -> Workspace:
    """A workspace with packages from a channel and Python from this machine."""
    return make_workspace(settings=f'channels = ["{channel}", "host"]')


def test_a_prefix_that_another_tool_made_loses_nothing(mixed: Workspace) -> None:
    made = mixed.create("chat", PYTHON, "one")
    subprocess.run(["rm", "-r", made.prefix / "conda-meta/trainenv"], check=True)
    mixed.install("chat", "two")
    assert {"python", "pip", "setuptools", "one", "two"} <= _names(mixed, "chat")


def test_what_users_did_by_hand_stays(mixed: Workspace, wheels: Path) -> None:
    made = mixed.create("chat", PYTHON)
    subprocess.run([made.prefix / "bin/python", "-m", "pip", "install", "--quiet", "needs_greeter"], check=True)
    (made.prefix / "notes").mkdir()
    (made.prefix / "notes/mine.txt").write_text("mine\n")
    (made.prefix / "notes").chmod(0o555)
    os.mkfifo(made.prefix / "pipe")
    assert mixed.verify(made).problems == []
    changed = mixed.install("chat", "two")
    assert {"greeter", "needs-greeter", "two"} <= _names(mixed, "chat")
    assert (made.prefix / "notes/mine.txt").read_text() == "mine\n"
    assert mixed.verify(changed).problems == []
    mixed.remove("chat")
    assert not made.prefix.exists()


def test_a_change_changes_no_byte_of_a_sibling(mixed: Workspace, wheels: Path, tmp_path: Path) -> None:
    file = _requirements(tmp_path, "greeter<2")
    sibling = mixed.create("a", PYTHON, files=[file])
    mixed.create("b", PYTHON, files=[file])
    before = _hashes(sibling.prefix)
    mixed.install("b", "two", files=[_requirements(tmp_path, "needs_greeter")])
    mixed.remove("b")
    assert _hashes(sibling.prefix) == before


def test_a_requirement_with_another_hash_is_refused(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256((wheels / "greeter-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    wrong = "0" * 64
    for lines in (
        [f"greeter==1.0 --hash=sha256:{wrong}"],
        ["greeter==1.0 \\", f"    --hash=sha256:{wrong}"],
        ["--require-hashes", "greeter==1.0"],
        [f"greeter==1.0 --hash=sha256:{digest}", "needs_greeter"],
    ):
        with pytest.raises(SolveError, match="has not the hash"):
            workspace.create("chat", PYTHON, files=[_requirements(tmp_path, *lines)])
    assert workspace.environments() == []
    good = _requirements(tmp_path, "greeter==1.0 \\", f"  --hash=sha256:{wrong} \\", f"  --hash=sha256:{digest}")
    workspace.create("chat", PYTHON, files=[good])


def test_a_lock_names_local_files_from_everywhere(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    file = support.make_wheel(tmp_path / "local", "own")
    made = workspace.create("chat", PYTHON, files=[_requirements(tmp_path, str(file))])
    notes = made.prefix / "conda-meta/trainenv"
    assert f'"{file}"' in (notes / "pylock.toml").read_text()
    assert f"{file}\n" in (notes / "pixi.lock").read_text()
    file.unlink()
    workspace.install("chat", files=[_requirements(tmp_path, "needs_greeter")])
    assert {"own", "needs-greeter"} <= _names(workspace, "chat"), "the wheel is gone, what it brought is not"


def test_a_later_install_knows_where_the_first_one_came_from(
    workspace: Workspace, wheels: Path, tmp_path: Path
) -> None:
    support.make_wheel(tmp_path / "other", "rare")
    workspace.create("chat", PYTHON, files=[_requirements(tmp_path, f"--find-links {tmp_path / 'other'}", "rare")])
    workspace.install("chat", files=[_requirements(tmp_path, "needs_greeter")])
    assert {"rare", "needs-greeter"} <= _names(workspace, "chat")


def test_a_conda_package_that_pypi_replaced_is_not_silently_left_out(
    workspace: Workspace, wheels: Path, tmp_path: Path
) -> None:
    support.make_wheel(wheels, "setuptools", "999.0")
    workspace.create("chat", PYTHON, files=[_requirements(tmp_path, "setuptools>=999")])
    with pytest.raises(SolveError, match=r"PyPI package has replaced conda's setuptools"):
        workspace.install("chat", "setuptools")


_BUILDS_ITS_PREFIX_IN = """
import sys, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "built-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("built/__init__.py", f"PREFIX = {sys.base_prefix!r}\\n")
        wheel.writestr("built-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: built\\nVersion: 1.0\\n")
        wheel.writestr("built-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("built-1.0.dist-info/RECORD", "built/__init__.py,,\\n")
    return name
"""


def test_a_prefix_built_in_does_not_travel_through_the_cache(
    workspace: Workspace, wheels: Path, tmp_path: Path
) -> None:
    source = tmp_path / "built"
    source.mkdir()
    (source / "backend.py").write_text(_BUILDS_ITS_PREFIX_IN)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "built"\nversion = "1.0"\n'
    )
    file = _requirements(tmp_path, str(source))
    for name in ("first", "second"):
        made = workspace.create(name, PYTHON, files=[file])
        module = next(made.prefix.glob("lib/python3.*/site-packages/built/__init__.py"))
        assert module.read_text() == f"PREFIX = {str(made.prefix)!r}\n"
        assert workspace.verify(made).problems == []


def test_one_flipped_byte_is_found_in_any_recorded_file(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    made = workspace.create("chat", PYTHON, files=[_requirements(tmp_path, "needs_greeter")])
    recorded = {path for record in conda_records(made.prefix) for path in record.files}
    recorded |= {path for found in distributions(made.prefix) for path, digest, _ in found.record() if digest}
    recorded = {path for path in recorded if not (made.prefix / path).is_symlink() and not path.endswith(".pyc")}
    chosen = random.Random(7).sample(sorted(path for path in recorded if (made.prefix / path).stat().st_size), 50)
    for path in [*chosen, "bin/greet"]:
        file = made.prefix / path
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        mode = file.stat().st_mode
        file.unlink()
        file.write_bytes(content)
        file.chmod(mode)
    problems = "\n".join(workspace.verify(made).problems)
    assert [path for path in [*chosen, "bin/greet"] if f"{path} of " not in problems] == []


def test_normal_use_is_no_damage(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    made = workspace.create("chat", PYTHON, files=[_requirements(tmp_path, "needs_greeter")])
    code = "import json, ssl, xml.dom, greeter, needs_greeter"
    subprocess.run([made.prefix / "bin/python", "-c", code], check=True)
    support.make_wheel(wheels, "byhand", scripts={"byhand": "greeter:main"})
    subprocess.run([made.prefix / "bin/python", "-m", "pip", "install", "--quiet", "byhand"], check=True)
    assert workspace.verify(made).problems == []


def test_the_prefix_of_a_container_is_carried_on(make_workspace: MakeWorkspace, channel: Path, tmp_path: Path) -> None:
    place = make_workspace("host", settings=f'channels = ["{channel}"]\nvisible_as = "/opt/conda/envs"')
    made = place.create("data", "one")
    place.install("data", "two")
    assert (made.prefix / "etc/one.conf").read_text() == "root = /opt/conda/envs/data\n"
    assert place.verify(made).problems == []
    archive = tmp_path / "data.tar.zst"
    place.pack(made, archive)
    other = make_workspace("other", settings=f'channels = ["{channel}"]')
    here = other.unpack(archive)
    assert (here.prefix / "etc/one.conf").read_text() == f"root = {here.prefix}\n"
    there = other.unpack(archive, "there", prefix="/srv/envs/there")
    support.add_package(channel, "three", prefix_files={"etc/three.conf": "root = @PREFIX@\n"})
    other.install("there", "three")
    assert (there.prefix / "etc/three.conf").read_text() == "root = /srv/envs/there\n"


def test_what_an_archive_brought_may_be_replaced(make_workspace: MakeWorkspace, channel: Path, tmp_path: Path) -> None:
    place = make_workspace("a", settings=f'channels = ["{channel}"]')
    archive = tmp_path / "data.tar.zst"
    place.pack(place.create("data", "one"), archive)
    other = make_workspace("b", settings=f'channels = ["{channel}"]')
    here = other.unpack(archive)
    support.add_package(channel, "one", "2.0", prefix_files={"etc/one.conf": "new root = @PREFIX@\n"})
    other.install("data", "one=2.0")
    assert (here.prefix / "etc/one.conf").read_text() == f"new root = {here.prefix}\n"
    assert other.verify(here).problems == []


def test_no_password_is_written_anywhere(
    make_workspace: MakeWorkspace, channel: Path, wheels: Path, tmp_path: Path
) -> None:
    with support.served(channel) as conda, support.served(wheels) as pypi:
        with_password = conda.replace("http://", "http://me:s3cret@")
        place = make_workspace(settings=f'channels = ["{with_password}", "host"]')
        wheel = f"{pypi.replace('http://', 'http://me:s3cret@')}/greeter-1.0-py3-none-any.whl"
        made = place.create("chat", PYTHON, "one", files=[_requirements(tmp_path, f"greeter @ {wheel}")])
        place.install("chat", "two", channels=[with_password])
    holding = [path for path in snapshot(made.prefix) if b"s3cret" in (made.prefix / path).read_bytes()]
    assert holding == []
    assert json.dumps(place.environment("chat").to_json()).count("s3cret") == 0


def test_a_folder_named_as_a_channel_means_the_same_from_everywhere(
    make_workspace: MakeWorkspace, channel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_workspace()
    monkeypatch.chdir(tmp_path)
    place.create("data", "one", channels=["./channel"])
    monkeypatch.chdir("/")
    place.install("data", "two")
    assert place.environment("data").channels == [str(channel)]


def test_pips_backups_and_broken_records_are_passed_over(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    made = workspace.create("chat", PYTHON, files=[_requirements(tmp_path, "greeter<2")])
    site = next(made.prefix.glob("lib/python3.*/site-packages"))
    for name, content in (("~reeter-0.9.dist-info", "Name: reeter\nVersion: 0.9\n"), ("half-1.dist-info", "")):
        (site / name).mkdir()
        (site / name / "METADATA").write_text(content)
    (site / "odd-1.dist-info").mkdir()
    (site / "odd-1.dist-info/METADATA").write_text("Name: odd\nVersion: 1\n")
    (site / "odd-1.dist-info/RECORD").write_bytes(b"caf\xe9.py,sha256=!!!,1\nodd-1.dist-info/METADATA,sha256=_,\n")
    assert _names(workspace, "chat") & {"reeter", "half", "None"} == set()
    problems = workspace.verify(made).problems
    assert any("of odd is missing" in problem for problem in problems)
    assert any("METADATA of odd was changed" in problem for problem in problems)


def test_a_spec_may_name_its_channel(make_workspace: MakeWorkspace, channel: Path, tmp_path: Path) -> None:
    second = support.make_channel(tmp_path / "second")
    support.add_package(second, "one", "0.5")
    place = make_workspace(settings=f'channels = ["{channel}"]\n[mirrors]\n"conda-forge" = ["{second}"]')
    made = place.create("chat", "conda-forge::one", "two", f"host::{PYTHON}")
    versions = {item.name: (item.version, item.channel) for item in made.packages}
    assert versions["one"] == ("0.5", "second")
    assert versions["two"] == ("1.0", "channel")
    assert versions["python"][1] == "host"
    assert {"conda-forge", "host"} <= set(made.channels)

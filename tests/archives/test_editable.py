"""Projects that an environment uses where they lie: refused, packed as well, or installed as wheels."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.archives.conftest import make_prefix, pack, snapshot, unpack
from tests.conftest import RunCommand, python_here
from trainenv import Environment, Workspace, archives, relocation
from trainenv.archives import Choice
from trainenv.channels.pypi import pip_settings
from trainenv.environments import environment
from trainenv.environments.records import read_note
from trainenv.errors import ArchiveError
from trainenv.progress import SilentReporter

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "@NAME@"
version = "1.0"
"""

BACKEND = '''
"""Builds as setuptools does: an editable install finds its module by a finder, or by a line in a .pth file."""

import os, zipfile

FINDER = """import sys
from importlib.machinery import PathFinder

MAPPING = {MAPPING!r}

class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return PathFinder.find_spec(name, [MAPPING[name]]) if name in MAPPING else None

def install():
    sys.meta_path.append(Finder)
"""

def _wheel(folder, members):
    info = "@NAME@-1.0.dist-info"
    members[f"{info}/METADATA"] = "Metadata-Version: 2.1\\nName: @NAME@\\nVersion: 1.0\\n"
    members[f"{info}/WHEEL"] = "Wheel-Version: 1.0\\nGenerator: tests\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    members[f"{info}/entry_points.txt"] = "[console_scripts]\\n@NAME@ = @NAME@:main\\n"
    members[f"{info}/RECORD"] = ""
    with zipfile.ZipFile(os.path.join(folder, "@NAME@-1.0-py3-none-any.whl"), "w") as wheel:
        for path, text in members.items():
            wheel.writestr(path, text)
    return "@NAME@-1.0-py3-none-any.whl"

def build_editable(folder, config_settings=None, metadata_directory=None):
    if "@STYLE@" == "pth":
        return _wheel(folder, {"__editable__.@NAME@-1.0.pth": os.path.abspath("src") + "\\n"})
    finder = "__editable___@NAME@_1_0_finder"
    text = FINDER.replace("{MAPPING!r}", repr({"@NAME@": os.path.abspath("src")}))
    return _wheel(folder, {f"{finder}.py": text, "__editable__.@NAME@-1.0.pth": f"import {finder}; {finder}.install()"})

def build_wheel(folder, config_settings=None, metadata_directory=None):
    return _wheel(folder, {"@NAME@/__init__.py": open("src/@NAME@/__init__.py").read()})
'''

MODULE = "import sys\n\ndef main():\n    print(__file__, sys.prefix)\n"


def _project(folder: Path, name: str, style: str) -> Path:
    (folder / "src" / name).mkdir(parents=True)
    (folder / "src" / name / "__init__.py").write_text(MODULE)
    for file, text in (("pyproject.toml", PROJECT), ("backend.py", BACKEND)):
        (folder / file).write_text(text.replace("@NAME@", name).replace("@STYLE@", style))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Iterator[tuple[Workspace, Environment]]:
    """An environment with two editable projects: ``mine`` by a finder, ``yours`` by a path with a blank in it."""
    base = tmp_path_factory.mktemp("machine_a")
    (base / "trainenv.toml").write_text(f'cache_dir = "{shared_cache}"\nchannels = ["host"]\n')
    mine = _project(base / "code" / "mine", "mine", "finder")
    yours = _project(base / "code" / "my yours", "yours", "pth")
    for path in ("data/huge.bin", ".env", "src/mine/_version.py"):
        (mine / path).parent.mkdir(exist_ok=True)
        (mine / path).write_text("made here")
    (mine / ".gitignore").write_text("data/\n.env\n_version.py\n")
    subprocess.run(["git", "init", "--quiet", mine], check=True)
    (yours / "venv").mkdir()
    (yours / "venv/pyvenv.cfg").write_text("home = /usr/bin\n")
    (yours / "src/yours/link.py").symlink_to("__init__.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        pip_settings.cache_clear()
        place = Workspace(base)
        (base / "requirements.txt").write_text(f"-e {mine}\n-e {yours.as_uri()}\n")
        place.create("chat", f"python={python_here()}", files=[base / "requirements.txt"])
        _said(place.environment("chat").prefix / "bin/mine")
        yield place, place.environment("chat")
    pip_settings.cache_clear()
    shutil.rmtree(base)


def _said(program: Path) -> list[str]:
    """What ``program`` says, without leaving bytecode that nobody packed."""
    variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.check_output([program], text=True, cwd="/", env=variables).strip().split(" ")


def test_they_are_refused_by_name(made: tuple[Workspace, Environment], tmp_path: Path, trainenv: RunCommand) -> None:
    place, chat = made
    done = trainenv(place, "pack", "-n", chat.name, "-o", str(tmp_path / "a.tar.zst"))
    assert done.returncode == 1
    assert f"mine ({place.settings.root}/code/mine), yours ({place.settings.root}/code/my yours)" in done.stderr
    assert "--editable include" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_included_projects_come_along(made: tuple[Workspace, Environment], tmp_path: Path) -> None:
    """Without what git ignores and other environments, but with code that a build made."""
    place, chat = made
    before = snapshot(chat.prefix)
    archive = place.pack(chat, tmp_path / "a.tar.zst", editable="include")
    assert snapshot(chat.prefix) == before
    work = place.settings.root / "code"
    hidden = work.rename(work.with_name("hidden"))
    try:
        previous = archive.path
        for name in ("b", "c/with/a/longer/name", "a"):
            target = tmp_path / name
            unpack(previous, target)
            assert _said(target / "bin/mine") == [f"{target}/src/mine/src/mine/__init__.py", str(target)]
            assert _said(target / "bin/yours") == [f"{target}/src/yours/src/yours/__init__.py", str(target)]
            assert place.verify(environment.at(target), old_prefixes=[str(work), str(chat.prefix)]).problems == []
            for cached in (target / "src").rglob("__pycache__"):
                shutil.rmtree(cached)
            previous = place.pack(environment.at(target), tmp_path / f"{name[0]}2.tar.zst").path
            # The name is that of the folder; all else is the same.
            assert archives.read_manifest(previous).files == archive.manifest.files
    finally:
        hidden.rename(work)
    found = {str(path.relative_to(tmp_path / "b/src")) for path in (tmp_path / "b/src").rglob("*") if not path.is_dir()}
    assert found == {
        *(f"{name}/{file}" for name in ("mine", "yours") for file in ("pyproject.toml", "backend.py")),
        *("mine/.gitignore", "mine/src/mine/__init__.py", "mine/src/mine/_version.py"),
        *("yours/src/yours/__init__.py", "yours/src/yours/link.py"),
    }
    packages = {package.name: package.editable for package in environment.at(tmp_path / "b").packages}
    assert (packages["mine"], packages["yours"]) == (f"{tmp_path}/b/src/mine", f"{tmp_path}/b/src/yours")
    noted = {project["url"] for project in read_note(tmp_path / "b", "environment.json")["projects"]}
    assert noted == {(tmp_path / "b/src" / name).as_uri() for name in ("mine", "yours")}


def test_wheels_are_installed_for_the_archive(made: tuple[Workspace, Environment], tmp_path: Path) -> None:
    place, chat = made
    before = snapshot(chat.prefix)
    one = place.pack(chat, tmp_path / "a.tar.zst", editable="wheel")
    assert snapshot(chat.prefix) == before
    assert place.pack(chat, tmp_path / "again.tar.zst", editable="wheel").path.read_bytes() == one.path.read_bytes()
    target = tmp_path / "b"
    unpack(one.path, target)
    site = next(target.glob("lib/python3*/site-packages"))
    assert _said(target / "bin/mine") == [f"{site}/mine/__init__.py", str(target)]
    assert _said(target / "bin/yours") == [f"{site}/yours/__init__.py", str(target)]
    assert not list(site.glob("*editable*"))
    assert place.verify(environment.at(target), old_prefixes=[str(chat.prefix)]).problems == []
    assert not any(package.editable for package in environment.at(target).packages)
    owners = {file.path: file.owner for file in one.manifest.files}
    assert owners["bin/mine"] == "pypi:mine"
    new = [file.path for file in one.manifest.files if file.kind == "file" and file.path not in before]
    assert [path for path in new if not owners[path]] == []
    assert relocation.leftovers(site / "mine", [str(tmp_path), str(place.settings.root)]) == []


def test_a_project_that_can_not_be_built_is_told(made: tuple[Workspace, Environment], tmp_path: Path) -> None:
    place, chat = made
    backend = place.settings.root / "code/mine/backend.py"
    text = backend.read_text()
    backend.write_text("raise SystemExit('no compiler here')")
    try:
        with pytest.raises(ArchiveError, match="no compiler here"):
            place.pack(chat, tmp_path / "a.tar.zst", editable="wheel")
    finally:
        backend.write_text(text)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def develop(tmp_path: Path) -> tuple[Path, Path]:
    """A prefix with projects put in by ``setup.py develop`` and by a line in a ``.pth`` file; and their folder."""
    prefix = make_prefix(tmp_path / "chat")
    shutil.rmtree(prefix / "share")
    work = tmp_path / "work"
    for path in ("old/lib/old.py", "old/setup.py", "plain/plain.py"):
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text("")
    site = prefix / "lib/python3.1/site-packages"
    (site / "old.egg-link").write_text(f"{work}/old/lib\n../")
    (site / "easy-install.pth").write_text(f"{work}/old/lib\n")
    (site / "conda.pth").write_text(f"# by hand\n{work}/plain\n{work}/gone\nimport sys\n")
    (prefix / "bin/old").write_text(f"#!{prefix}/bin/python\n__file__ = '{work}/old/lib/bin/old'\n")
    return prefix, work


def test_other_ways_into_a_folder_are_found_as_well(develop: tuple[Path, Path], tmp_path: Path) -> None:
    prefix, work = develop
    with pytest.raises(ArchiveError, match=rf"old \({work}/old\), plain \({work}/plain\)"):
        pack(prefix, tmp_path / "a.tar.zst")
    pack(prefix, tmp_path / "a.tar.zst", choice=Choice(editable="include"))
    unpack(tmp_path / "a.tar.zst", tmp_path / "b")
    site = tmp_path / "b/lib/python3.1/site-packages"
    assert (site / "old.egg-link").read_text() == f"{tmp_path}/b/src/old/lib\n../"
    assert (site / "easy-install.pth").read_text() == f"{tmp_path}/b/src/old/lib\n"
    assert (site / "conda.pth").read_text() == f"# by hand\n{tmp_path}/b/src/plain\n{work}/gone\nimport sys\n"
    assert f"{tmp_path}/b/src/old/lib/bin/old" in (tmp_path / "b/bin/old").read_text()
    assert (tmp_path / "b/src/plain/plain.py").is_file()


def test_links_out_of_a_project_are_told_and_none_brings_what_it_lies_in(
    develop: tuple[Path, Path], tmp_path: Path
) -> None:
    prefix, work = develop
    (work / "shared").mkdir()
    (work / "shared/code.py").write_text("x = 1\n")
    (work / "plain/shared").symlink_to("../shared")
    (work / "plain/passwd").symlink_to("/etc/passwd")
    (work / "plain/loop").symlink_to("../..")
    (work / "plain/itself").symlink_to(".")
    reporter = SilentReporter()
    archive = pack(prefix, tmp_path / "a.tar.zst", choice=Choice(editable="include"), reporter=reporter)
    kinds = {file.path: file.kind for file in archive.manifest.files if file.path.startswith("src/plain/")}
    assert kinds.pop("src/plain/itself") == "link"
    assert {path for path, kind in kinds.items() if kind == "file"} == {
        *("src/plain/plain.py", "src/plain/passwd", "src/plain/shared/code.py"),
    }
    told = [notice for notice in reporter.notices if notice.startswith("the link")]
    assert len(told) == 3
    assert f"{work}/plain/loop leads to {tmp_path}, which the project lies in, and is left out" in told[0]
    assert "passwd leads out of the project: the file at /etc/passwd" in told[1]
    assert f"shared leads out of the project: the file at {work}/shared" in told[2]


def test_a_project_whose_folder_is_gone_is_told(made: tuple[Workspace, Environment], tmp_path: Path) -> None:
    place, chat = made
    work = place.settings.root / "code"
    hidden = work.rename(work.with_name("hidden"))
    try:
        with pytest.raises(ArchiveError, match=r"code/mine: No such file or directory"):
            place.pack(chat, tmp_path / "a.tar.zst", editable="include")
    finally:
        hidden.rename(work)


def test_a_mere_folder_is_no_wheel(develop: tuple[Path, Path], tmp_path: Path, workspace: Workspace) -> None:
    prefix, work = develop
    with pytest.raises(ArchiveError, match=rf"no wheel can be built of plain \({work}/plain\)"):
        pack(prefix, tmp_path / "a.tar.zst", choice=Choice(editable="wheel", settings=workspace.settings))


def test_a_project_that_builds_itself_on_import_is_not_included(tmp_path: Path) -> None:
    prefix, project = make_prefix(tmp_path / "chat"), tmp_path / "work"
    project.mkdir()
    site = prefix / "lib/python3.1/site-packages"
    (site / "_meson_editable_loader.py").write_text(f"BUILD = '{project}/build'\n")
    info = site / "meson-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: meson\nVersion: 1.0\n")
    (info / "RECORD").write_text("_meson_editable_loader.py,,\nmeson-1.0.dist-info/RECORD,,\n")
    (info / "direct_url.json").write_text(f'{{"url": "{project.as_uri()}", "dir_info": {{"editable": true}}}}')
    with pytest.raises(ArchiveError, match="importing it builds it anew"):
        pack(prefix, tmp_path / "a.tar.zst", choice=Choice(editable="include"))

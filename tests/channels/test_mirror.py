"""A mirror folder is all that a machine without a network needs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, RunCommand, program, python_here
from trainenv import ChannelError, InstallError, Workspace
from trainenv.channels.access import Access
from trainenv.channels.mirror import CondaFile, PypiFile, mirror
from trainenv.channels.pypi import pip_settings
from trainenv.progress import SilentReporter

PYTHON = f"python={python_here()}"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A PyPI index of two wheels, to be served."""
    folder = tmp_path / "index"
    for name, requires in (("greeter", []), ("Needs_Greeter", ["greeter"])):
        wheel = support.make_wheel(folder / "files", name, requires=requires)
        page = folder / "simple" / name.lower().replace("_", "-") / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(f'<a href="../../files/{wheel.name}">{wheel.name}</a>')
    return folder


@pytest.fixture
def only_index(monkeypatch: pytest.MonkeyPatch, own_home: Path) -> Iterator[_OnlyIndex]:
    """Sets the one index that pip's settings name."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    yield _OnlyIndex(monkeypatch)
    pip_settings.cache_clear()


class _OnlyIndex:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, url: str) -> None:
        self._monkeypatch.setenv("PIP_INDEX_URL", url)
        pip_settings.cache_clear()


def _requirements(folder: Path, *lines: str) -> Path:
    file = folder / "requirements.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


def _far_machine(tmp_path: Path, channel: str) -> Workspace:
    """A workspace with cold caches that knows one channel."""
    root = tmp_path / "far"
    root.mkdir()
    (root / "trainenv.toml").write_text(f'channels = ["{channel}"]\nhost_fallback = false\n')
    return Workspace(root)


@pytest.mark.parametrize("how", ["file", "http"])
def test_an_environment_comes_from_its_mirror_alone(
    how: str, workspace: Workspace, index: Path, only_index: _OnlyIndex, tmp_path: Path
) -> None:
    requirements = _requirements(tmp_path, "needs-greeter")
    with support.guarded(index) as server:
        only_index(f"{server.url}/simple")
        here = workspace.create("one", PYTHON, files=[requirements])
        made = workspace.mirror("one", tmp_path / "mirror")
    assert (made.conda, made.pypi, made.fetched) == (3, 2, 5)
    with contextlib.ExitStack() as stack:
        channel, simple = str(made.folder), made.index_url
        if how == "http":
            url = stack.enter_context(support.guarded(made.folder)).url
            channel, simple = url, f"{url}/simple"
        only_index(simple)
        far = _far_machine(tmp_path, channel)
        there = far.create("one", PYTHON, files=[requirements])
        assert far.verify(there).problems == []
    assert [(item.name, item.version, item.build) for item in there.packages] == [
        (item.name, item.version, item.build) for item in here.packages
    ]


def test_a_lock_is_as_good_as_its_environment(
    workspace: Workspace, index: Path, only_index: _OnlyIndex, tmp_path: Path, trainenv: RunCommand
) -> None:
    with support.guarded(index) as server:
        only_index(f"{server.url}/simple")
        made = workspace.create("one", PYTHON, files=[_requirements(tmp_path, "greeter")])
        lock = made.prefix / "conda-meta/trainenv/pixi.lock"
        done = trainenv(workspace, "channel", "mirror", str(lock), "-o", str(tmp_path / "mirror"), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["fetched"] == 4
        again = workspace.mirror("one", tmp_path / "mirror")
    assert (again.fetched, again.bytes) == (0, 0)
    page = (tmp_path / "mirror/simple/greeter/index.html").read_text()
    assert "greeter-1.0-py3-none-any.whl#sha256=" in page


@pytest.mark.parametrize("named", ["as a mirror", "on the command line"])
def test_a_lock_takes_its_files_from_the_mirror_where_nothing_else_is_reached(
    named: str,
    workspace: Workspace,
    index: Path,
    only_index: _OnlyIndex,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel = support.make_channel(tmp_path / "channel")
    support.add_package(channel, "base", files={"share/base.txt": "base 1\n"})
    lock, mirror = tmp_path / "pixi.lock", tmp_path / "mirror"
    with support.guarded(index) as server, support.guarded(channel) as conda:
        only_index(f"{server.url}/simple")
        here = workspace.create(
            "one", PYTHON, "base", files=[_requirements(tmp_path, "needs-greeter")], channels=["host", conda.url]
        )
        lock.write_text(workspace.export(here, "pixi.lock"))
        workspace.mirror(lock, mirror)
    only_index(support.refusing())
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    far = _far_machine(tmp_path, support.refusing())
    if named == "as a mirror":
        far.settings.file.write_text(f'channels = ["lab"]\n[mirrors]\nlab = ["{mirror.as_uri()}"]\n')
        far = Workspace(far.settings.root)
    there = far.create("one", files=[lock], channels=[str(mirror)] if named == "on the command line" else [])
    assert far.verify(there).problems == []
    assert [(item.name, item.version, item.build) for item in there.packages] == [
        (item.name, item.version, item.build) for item in here.packages
    ]
    wheel = mirror / "wheels" / "greeter-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes() + b" ")
    with pytest.raises(InstallError):  # Another file of that name is not the file, and the lock's own is out of reach.
        far.create("two", files=[lock], channels=[str(mirror)] if named == "on the command line" else [])


def test_mirrors_of_several_environments_share_a_folder(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    channel = support.make_channel(tmp_path / "channel")
    for name in ("base", "other"):
        support.add_package(channel, name, files={f"share/{name}.txt": name})
        workspace.create(name, name, channels=[str(channel)])
        workspace.mirror(name, tmp_path / "mirror")
    far = _far_machine(tmp_path, str(tmp_path / "mirror"))
    assert {item.name for item in far.create("both", "base", "other").packages} == {"base", "other"}


def test_a_source_that_changed_is_not_copied(workspace: Workspace, tmp_path: Path) -> None:
    channel = support.make_channel(tmp_path / "channel")
    package = support.add_package(channel, "base", files={"share/base.txt": "1\n"})
    workspace.create("one", "base", channels=[str(channel)])
    package.write_bytes(package.read_bytes() + b"more")
    with pytest.raises(ChannelError, match=r"base-1\.0-0.*not what the lock says"):
        workspace.mirror("one", tmp_path / "mirror")
    assert list((tmp_path / "mirror/noarch").glob("*base*")) == []
    assert not (tmp_path / "mirror/noarch/repodata.json").exists()


def test_a_damaged_copy_is_noticed_and_another_file_never_overwritten(workspace: Workspace, tmp_path: Path) -> None:
    channel = support.make_channel(tmp_path / "channel")
    support.add_package(channel, "base", files={"share/base.txt": "1\n"})
    workspace.create("one", "base", channels=[str(channel)])
    workspace.mirror("one", tmp_path / "mirror")
    copy = tmp_path / "mirror/noarch/base-1.0-0.tar.bz2"
    copy.write_bytes(b"damaged")
    with pytest.raises(ChannelError, match="another file"):
        workspace.mirror("one", tmp_path / "mirror")
    copy.unlink()
    assert workspace.mirror("one", tmp_path / "mirror").fetched == 1


def test_what_is_no_file_is_named_before_anything_is_copied(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "mine").mkdir(parents=True)
    (project / "mine/__init__.py").write_text("")
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "mine"\nversion = "1"\n'
    )
    (project / "backend.py").write_text(_BACKEND)
    workspace.create("one", PYTHON, files=[_requirements(tmp_path, f"-e {project}", "greeter<2")])
    with pytest.raises(ChannelError, match=r"mine can't be mirrored.*wheel"):
        workspace.mirror("one", tmp_path / "mirror")
    assert not (tmp_path / "mirror").exists()


_BACKEND = """
import base64, hashlib, os, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "mine-1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("mine.pth", os.getcwd())
        wheel.writestr("mine-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: mine\\nVersion: 1\\n")
        wheel.writestr("mine-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("mine-1.dist-info/RECORD", "mine.pth,,\\n")
    return name

build_wheel = build_editable
"""


def test_a_broken_line_is_taken_up_again_and_secrets_stay_away(tmp_path: Path, index: Path) -> None:
    channel = support.make_channel(tmp_path / "channel")
    support.add_package(channel, "base", files={"share/base.txt": "1\n"})
    (index / "channel").symlink_to(channel)
    with support.guarded(index, login=("me", "s3cret-word"), drops=2) as server:
        own = server.address("me", "s3cret-word")
        access = Access.of(_far_machine(tmp_path, "x").settings, [own])
        conda = [CondaFile("noarch", f"{server.url}/channel/noarch/base-1.0-0.tar.bz2", None, None, None)]
        pypi = [PypiFile("greeter", f"{server.url}/files/greeter-1.0-py3-none-any.whl", None)]
        made = mirror(conda, pypi, tmp_path / "mirror", access, SilentReporter())
        missing = [PypiFile("none", f"{server.url}/files/none-1.0-py3-none-any.whl", None)]
        with pytest.raises(ChannelError, match="404") as error:
            mirror([], missing, tmp_path / "mirror", access, SilentReporter())
    assert made.fetched == 2
    assert "s3cret-word" not in str(error.value)
    assert support.holders_of_secret("s3cret-word", tmp_path / "mirror") == []
    index_text = json.loads((tmp_path / "mirror/noarch/repodata.json").read_text())
    assert index_text["packages"]["base-1.0-0.tar.bz2"]["sha256"]


@pytest.mark.parametrize("name", ["..%2F..%2Fetc%2Fpasswd", ".hidden", "%2E%2E", ""])
def test_no_address_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ChannelError, match="does not name a file"):
        mirror(
            [], [PypiFile("x", f"http://host.example/{name}", None)], tmp_path / "mirror", Access(), SilentReporter()
        )
    assert {entry.name for entry in tmp_path.iterdir()} <= {"mirror"}


# The other commands of `trainenv channel`


def test_the_channels_in_force_are_listed_with_their_state(
    make_workspace: MakeWorkspace, tmp_path: Path, own_home: Path, trainenv: RunCommand
) -> None:
    folder = support.make_channel(tmp_path / "channel")
    (own_home / ".netrc").write_text("machine 127.0.0.1 login me password s3cret-word\n")
    with support.guarded(folder, login=("me", "s3cret-word")) as open_, support.guarded(folder, bearer="x") as closed:
        settings = f'channels = ["lab", "{closed.url}", "{folder}", "host"]\n[mirrors]\nlab = "{open_.url}"\n'
        place = make_workspace(settings=settings)
        done = trainenv(place, "channel", "list", "--json")
        shown = trainenv(place, "channel", "list")
        doctor = trainenv(place, "doctor")
    assert done.returncode == 0, done.stderr
    lab, shut, local, host = json.loads(done.stdout)
    assert (lab["name"], lab["problem"], lab["mirror"], lab["credentials"]) == ("lab", None, True, "netrc")
    assert lab["origin"] == str(place.settings.file)
    assert "who you are" in shut["problem"]
    assert (local["problem"], host["name"]) == (None, "host")
    assert "lab" in shown.stdout
    assert "netrc" in doctor.stdout
    assert "s3cret-word" not in done.stdout + shown.stdout + doctor.stdout + doctor.stderr


def test_an_interpreter_is_added_to_the_host_channel_by_its_path(
    workspace: Workspace, tmp_path: Path, trainenv: RunCommand
) -> None:
    import sys

    link = tmp_path / "my-python"
    link.symlink_to(sys.executable)
    done = trainenv(workspace, "channel", "add-host", str(link), "--json")
    assert done.returncode == 0, done.stderr
    added = json.loads(done.stdout)
    assert added["version"].startswith(python_here())
    version = trainenv(workspace, "channel", "add-host", python_here())
    assert version.returncode == 0, version.stderr
    assert workspace.create("one", f"python={added['version']}").python == added["version"]


@pytest.mark.parametrize(
    ("python", "code", "message"),
    [("/bin/sh", 1, "can't become a package"), ("/no/such", 2, "not a program"), ("9.9", 1, "no usable Python 9.9")],
)
def test_what_can_not_be_added_is_explained(
    workspace: Workspace, trainenv: RunCommand, python: str, code: int, message: str
) -> None:
    done = trainenv(workspace, "channel", "add-host", python)
    assert done.returncode == code
    assert message in done.stderr
    assert python not in trainenv(workspace, "doctor").stdout


def test_a_full_disk_is_said_and_the_mirror_goes_on_afterwards(make_workspace: MakeWorkspace, tmp_path: Path) -> None:
    channel = support.make_channel(tmp_path / "large-channel")
    support.add_package(channel, "large", files={f"share/{n}": os.urandom(100_000).hex() for n in range(30)})
    place = make_workspace()
    place.create("data", "large", channels=[str(channel)])
    folder = tmp_path / "small-disk"
    folder.mkdir()
    command = " ".join(program(place, "channel", "mirror", "data", "-o", str(folder)))
    script = f"""mount -t tmpfs -o size=1m tmpfs {folder}
{command}; echo $?
find {folder} -name '*.bz2' -o -name '.partial-*' -o -name repodata.json
mount -o remount,size=50m {folder}
{command} >/dev/null; echo $?"""
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["1", "0"], done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("trainenv: error: ")]
    assert len(errors) == 1
    assert "No space left" in errors[0]
    assert "Free space" in errors[0]

"""Clones and renames: whole, relocated, independent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests import support
from tests.conftest import RunCommand, program, python_here
from trainenv import EnvironmentBusyError, EnvironmentNotFoundError, Workspace, locks
from trainenv.environments.environment import Environment
from trainenv.environments.ownership import snapshot
from trainenv.environments.records import conda_records
from trainenv.errors import EnvironmentExistsError, RelocationError

SITE = f"lib/python{python_here()}/site-packages"


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = support.make_channel(tmp_path / "channel")
    support.add_package(
        folder,
        "tool",
        files={"share/tool.txt": "data\n"},
        prefix_files={"bin/tool": "#!/bin/sh\necho @PREFIX@\n", "etc/tool.conf": "home=@PREFIX@\n"},
    )
    return folder


@pytest.fixture
def made(workspace: Workspace, wheels: Path, channel: Path, tmp_path: Path) -> Environment:
    file = tmp_path / "requirements.txt"
    file.write_text("needs_greeter\n")
    return workspace.create("chat", f"python={python_here()}", "tool", files=[file], channels=["host", str(channel)])


def _output(prefix: Path, name: str) -> str:
    return subprocess.run([prefix / "bin" / name], capture_output=True, text=True, check=True).stdout.strip()


def _content(prefix: Path) -> dict[str, bytes]:
    return {
        path: (prefix / path).read_bytes()
        for path in snapshot(prefix)
        if not path.endswith(".pyc") and not (prefix / path).is_symlink()
    }


def test_a_clone_works_and_is_whole(workspace: Workspace, made: Environment) -> None:
    before = _content(made.prefix)
    copy = workspace.clone(made, "experiment")
    assert copy.packages == made.packages
    assert _output(copy.prefix, "greet") == f"hello from {copy.prefix}"
    assert _output(copy.prefix, "tool") == str(copy.prefix)
    assert workspace.verify(copy, old_prefixes=[str(made.prefix)]).problems == []
    assert _content(made.prefix) == before
    assert workspace.verify(made).problems == []


def test_a_clone_of_one_moved_by_hand_names_neither_place(workspace: Workspace, made: Environment) -> None:
    moved = made.prefix.rename(made.prefix.parent / "moved")
    (moved / "bin/late").write_text(f"#!{moved}/bin/python\nprint({str(made.prefix)!r}, {str(moved)!r})\n")
    (moved / "bin/late").chmod(0o755)
    copy = workspace.clone(workspace.environment("moved"), "experiment")
    assert _output(copy.prefix, "late") == f"{copy.prefix} {copy.prefix}"
    assert _output(copy.prefix, "greet") == f"hello from {copy.prefix}"
    assert workspace.verify(copy, old_prefixes=[str(made.prefix), str(moved)]).problems == []


def test_a_clone_shares_what_is_the_same(workspace: Workspace, made: Environment) -> None:
    copy = workspace.clone(made, "experiment")
    file = f"lib/python{python_here()}/json/decoder.py"
    assert (copy.prefix / file).samefile(made.prefix / file)
    assert copy.sizes.own < copy.sizes.apparent / 4


@pytest.mark.parametrize(
    "path",
    [
        "conda-meta/history",
        "conda-meta/trainenv/environment.json",
        "etc/tool.conf",
        f"{SITE}/greeter-1.0.dist-info/RECORD",
        f"{SITE}/distutils-precedence.pth",
    ],
)
@pytest.mark.parametrize("edited", ["clone", "original"])
def test_an_edit_in_place_does_not_show_in_the_other(
    workspace: Workspace, made: Environment, tmp_path: Path, path: str, edited: str
) -> None:
    apart = tmp_path / "apart"
    shutil.copy2(made.prefix / path, apart)
    apart.replace(made.prefix / path)  # What is edited here must not be the file of the cache that other tests share.
    copy = workspace.clone(made, "experiment")
    places = {"clone": copy.prefix, "original": made.prefix}
    other = places["original" if edited == "clone" else "clone"]
    before = _content(other)
    with (places[edited] / path).open("a") as stream:
        stream.write("edited\n")
    assert _content(other) == before


def test_what_is_installed_into_a_clone_stays_there(workspace: Workspace, made: Environment, wheels: Path) -> None:
    copy = workspace.clone(made, "experiment")
    before = _content(made.prefix)
    support.make_wheel(wheels, "extra")
    file = wheels / "extra.txt"
    file.write_text("extra\n")
    workspace.install("experiment", files=[file])
    assert _content(made.prefix) == before
    assert workspace.verify(workspace.environment("experiment"), old_prefixes=[str(made.prefix)]).problems == []
    assert "extra" in {item.name for item in workspace.environment(copy.name).packages}


def test_condas_records_of_a_clone_hold_its_own_hashes(workspace: Workspace, made: Environment) -> None:
    import hashlib

    copy = workspace.clone(made, "a-rather-long-name-for-an-experiment")
    checked = 0
    for record in conda_records(copy.prefix):
        for entry in record.paths:
            if entry["path_type"] == "hardlink" and entry.get("sha256_in_prefix"):
                content = (copy.prefix / entry["_path"]).read_bytes()
                assert hashlib.sha256(content).hexdigest() == entry["sha256_in_prefix"], entry["_path"]
                checked += str(copy.prefix).encode() in content
    assert checked > 2


def test_an_environment_that_conda_made_elsewhere_is_cloned(
    workspace: Workspace, tmp_path: Path, trainenv: RunCommand
) -> None:
    foreign = make_conda_prefix(tmp_path / "miniforge/envs/old")
    done = trainenv(workspace, "env", "clone", "-p", str(foreign), "-n", "new", "--json")
    assert done.returncode == 0, done.stderr
    copy = workspace.environment("new")
    assert json.loads(done.stdout)["prefix"] == str(copy.prefix)
    assert _output(copy.prefix, "hello") == str(copy.prefix)
    assert workspace.verify(copy, old_prefixes=[str(foreign)]).problems == []
    assert _output(foreign, "hello") == str(foreign)


def test_a_clone_is_refused_where_there_is_something(workspace: Workspace, made: Environment) -> None:
    with pytest.raises(EnvironmentExistsError, match="chat"):
        workspace.clone(made, "chat")
    workspace.clone(made, "experiment")
    with pytest.raises(EnvironmentExistsError, match="experiment"):
        workspace.clone(made, "experiment")


def test_a_prefix_that_binaries_have_no_room_for_leaves_nothing(workspace: Workspace, tmp_path: Path) -> None:
    foreign = make_conda_prefix(tmp_path / "c")
    binary = foreign / "lib/libold.so"
    binary.parent.mkdir()
    binary.write_bytes(b"\x7fELF\0\0" + str(foreign).encode() + b"/share\0\0")
    with pytest.raises(RelocationError, match="too long"):
        workspace.clone(workspace.environment_at(foreign), "x" * 100)
    assert workspace.environments() == []


def test_a_renamed_environment_is_whole_and_the_old_name_free(workspace: Workspace, made: Environment) -> None:
    renamed = workspace.rename("chat", "talk")
    assert [environment.name for environment in workspace.environments()] == ["talk"]
    assert _output(renamed.prefix, "greet") == f"hello from {renamed.prefix}"
    assert workspace.verify(renamed, old_prefixes=[str(made.prefix)]).problems == []
    listed = Path("~/.conda/environments.txt").expanduser().read_text().splitlines()
    assert listed == [str(renamed.prefix)]
    workspace.clone(renamed, "chat")


def test_renamed_there_and_back_it_packs_to_the_same_bytes(
    workspace: Workspace, made: Environment, tmp_path: Path
) -> None:
    before = workspace.pack(made, tmp_path / "before.tar").path
    workspace.rename(made.name, "other")
    again = workspace.rename("other", made.name)
    assert workspace.pack(again, tmp_path / "after.tar").path.read_bytes() == before.read_bytes()


def test_an_environment_in_use_is_not_renamed(workspace: Workspace, made: Environment) -> None:
    descriptor = locks.shared(workspace.settings, "chat")
    assert descriptor is not None
    try:
        with pytest.raises(EnvironmentBusyError, match="chat"):
            workspace.rename("chat", "talk")
    finally:
        os.close(descriptor)
    assert [environment.name for environment in workspace.environments()] == ["chat"]
    with pytest.raises(EnvironmentExistsError):
        workspace.rename("chat", "chat")
    with pytest.raises(EnvironmentNotFoundError):
        workspace.rename("nobody", "talk")


def test_methods_that_name_it_are_told_and_keep_it(
    workspace: Workspace, made: Environment, trainenv: RunCommand
) -> None:
    folder = workspace.settings.methods_dir / "finetune"
    folder.mkdir(parents=True)
    (folder / "method.yaml").write_text("conda_env: chat\nfile: train.py\n")
    (folder / "train.py").write_text("")
    assert workspace.methods_naming("chat") == ["finetune"]
    refused = trainenv(workspace, "env", "remove", "chat", "-y")
    assert refused.returncode == 1
    assert "finetune" in refused.stderr
    assert "--force" in refused.stderr
    told = trainenv(workspace, "env", "rename", "chat", "talk")
    assert told.returncode == 0, told.stderr
    assert "method finetune still names chat" in told.stderr
    (folder / "method.yaml").write_text("file: train.py\nstages: {infer: {file: train.py, conda_env: talk}}\n")
    assert trainenv(workspace, "env", "remove", "talk", "-y").returncode == 1
    assert trainenv(workspace, "env", "remove", "talk", "-y", "--force").returncode == 0
    assert workspace.environments() == []


@pytest.mark.parametrize("delay", [0.15, 0.3, 0.45, 0.6, 0.9])
def test_a_killed_rename_leaves_a_whole_environment(workspace: Workspace, made: Environment, delay: float) -> None:
    process = subprocess.Popen(program(workspace, "env", "rename", "chat", "talk"))
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = workspace.environments()
    assert {environment.name for environment in left} in ({"chat"}, {"chat", "talk"}, {"talk"})
    for environment in left:
        assert workspace.verify(environment, imports=False).problems == []
        assert _output(environment.prefix, "greet") == f"hello from {environment.prefix}"
    if len(left) == 2:
        workspace.remove("talk")
    if left[0].name == "chat":
        workspace.rename("chat", "talk")
    staging = workspace.settings.envs_dir / locks.STATE_DIR / "staging"
    workspace.clone(workspace.environment("talk"), "again")
    assert [item for item in staging.iterdir() if item.is_dir()] == []


def make_conda_prefix(prefix: Path) -> Path:
    """An environment by conda's on-disk contract, with a script that names its prefix."""
    import hashlib

    files = {
        "bin/hello": f"#!/bin/sh\necho {prefix}\n",
        "share/hello/data.txt": "data\n",
    }
    meta = prefix / "conda-meta"
    meta.mkdir(parents=True)
    paths = []
    for path, text in files.items():
        file = prefix / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        entry = {"_path": path, "path_type": "hardlink", "size_in_bytes": len(text), "sha256_in_prefix": digest}
        if str(prefix) in text:
            placeholder = "/opt/anaconda1anaconda2anaconda3"
            original = text.replace(str(prefix), placeholder).encode()
            entry |= {"file_mode": "text", "prefix_placeholder": placeholder}
            entry["sha256"] = hashlib.sha256(original).hexdigest()
        else:
            entry["sha256"] = digest
        paths.append(entry)
    (prefix / "bin/hello").chmod(0o755)
    record = {
        "name": "hello",
        "version": "1.0",
        "build": "0",
        "build_number": 0,
        "channel": "https://conda.example.org/main/linux-64",
        "url": "https://conda.example.org/main/linux-64/hello-1.0-0.conda",
        "fn": "hello-1.0-0.conda",
        "subdir": "linux-64",
        "depends": [],
        "files": list(files),
        "paths_data": {"paths_version": 1, "paths": paths},
        "link": {"source": "/opt/pkgs/hello-1.0-0", "type": 1},
    }
    (meta / "hello-1.0-0.json").write_text(json.dumps(record))
    (meta / "history").write_text("==> 2026-01-01 00:00:00 <==\n# cmd: conda create -n old hello\n")
    return prefix

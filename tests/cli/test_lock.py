"""``trainenv lock`` and the options that say for which machine packages are chosen."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, RunCommand, python_here
from trainenv import Workspace
from trainenv.channels.target import this_platform

OTHER = "linux-aarch64" if this_platform() == "linux-64" else "linux-64"


@pytest.fixture
def place(make_workspace: MakeWorkspace, tmp_path: Path) -> Workspace:
    channel = support.make_channel(tmp_path / "channel")
    for platform in (this_platform(), OTHER):
        support.add_package(channel, "tool", subdir=platform, day="2024-01-01")
    support.add_package(channel, "gpu", depends=["__cuda >=12", "tool"], day="2024-01-01")
    return make_workspace(settings=f'channels = ["{channel}", "host"]')


def test_a_lock_for_two_platforms_is_written_shown_and_told(
    place: Workspace, trainenv: RunCommand, tmp_path: Path
) -> None:
    wanted = ["lock", "gpu", "--cuda", "12.4", "--platform", OTHER, "--platform", this_platform()]
    done = trainenv(place, *wanted, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^gpu +added +1\.0 .* B$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(rf"^{OTHER}: 2 added, \d+ B to download$", done.stdout, re.MULTILINE)
    shown = json.loads(trainenv(place, *wanted, "--dry-run", "--json").stdout)
    assert [(item["platform"], item["virtual_packages"]) for item in shown] == [
        (OTHER, ["__cuda=12.4"]),
        (this_platform(), ["__cuda=12.4"]),
    ]
    assert [package["name"] for package in shown[0]["packages"]] == ["gpu", "tool"]
    file = tmp_path / "sub" / "pixi.lock"
    file.parent.mkdir()
    done = trainenv(place, *wanted, "-o", str(file))
    assert f"Locked 2 packages for {OTHER} in {file}" in done.stdout
    assert [item.name for item in file.parent.iterdir()] == ["pixi.lock"]
    assert trainenv(place, *wanted, "-o", "-").stdout == file.read_text()
    done = trainenv(place, "create", "-n", "copy", "-f", str(file))
    assert done.returncode == 0, done.stderr
    done = trainenv(place, "channel", "mirror", str(file), "-o", str(tmp_path / "mirror"), "--json")
    assert json.loads(done.stdout)["conda"] == 3


def test_create_for_another_platform_only_shows(place: Workspace, trainenv: RunCommand) -> None:
    wanted = ["create", "-n", "data", "tool", "--platform", OTHER]
    done = trainenv(place, *wanted, "--dry-run")
    assert re.search(r"^tool +added +1\.0 ", done.stdout, re.MULTILINE), done.stderr
    done = trainenv(place, *wanted)
    assert done.returncode == 2
    assert f"trainenv lock --platform {OTHER}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert place.environments() == []


def test_the_options_of_every_change(
    place: Workspace, trainenv: RunCommand, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = trainenv(place, "create", "-n", "data", f"python={python_here()}", "tool", "--cuda", "12.4")
    assert done.returncode == 0, done.stderr
    done = trainenv(place, "install", "-n", "data", "gpu", "--dry-run")
    assert re.search(r"^gpu +added ", done.stdout, re.MULTILINE), done.stderr
    done = trainenv(place, "install", "-n", "data", "gpu", "--cuda", "none")
    assert done.returncode == 1
    assert "To make it for a machine with a GPU: --cuda 12" in done.stderr.splitlines()[-3]
    done = trainenv(place, "pip", "install", "-n", "data", "greeter", "--dry-run", "--json")
    assert [(item["name"], item["change"]) for item in json.loads(done.stdout)["changes"]] == [("greeter", "added")]
    page = tmp_path / "simple" / "greeter" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("".join(f'<a href="{file.as_uri()}">{file.name}</a>' for file in wheels.glob("greeter-*")))
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    greeter = ["pip", "install", "-n", "data", "greeter"]
    done = trainenv(place, *greeter, "--exclude-newer", "2024-01-01")
    assert done.returncode == 1, "an index that does not say when a file was published"
    assert "greeter" in done.stderr
    done = trainenv(place, *greeter)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lock", "tool"], "where shall the lock go"),
        (["lock", "-o", "-"], "nothing was asked for"),
        (["lock", "nowhere", "-o", "-", "--platform", OTHER], f"for {OTHER}"),
        (["lock", "tool", "-o", "/nowhere/at/all.lock"], "can't be written"),
        (["lock", "tool", "-o", "-", "--format", "pylock.toml"], "no Python"),
        (["lock", "tool", "-o", "-", "--platform", "linux-arm"], "is no platform"),
        (["lock", "tool", "-o", "-", "--exclude-newer", "soon"], "is no date"),
        (["lock", "tool", "-o", "-", "--glibc", "new"], "is no version of glibc"),
        (["create", "-n", "data", "tool", "--cuda", "12.x"], "is no version of CUDA"),
    ],
)
def test_mistakes_get_one_line(place: Workspace, trainenv: RunCommand, arguments: list[str], words: str) -> None:
    done = trainenv(place, *arguments)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""

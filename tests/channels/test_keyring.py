"""Passwords in a real keyring (the file backend of keyrings.alt) open channels and indexes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import support
from tests.conftest import RunCommand, python_here
from trainenv import Workspace

USER, SECRET = "reader", "s3cret-Pa55word"

Store = Callable[[str], None]


@pytest.fixture
def store(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Puts the password of ``USER`` into the keyring, for a service."""
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyrings.alt.file.PlaintextKeyring")
    monkeypatch.setenv("XDG_DATA_HOME", str(own_home / "data"))
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    def put(service: str) -> None:
        command = [sys.executable, "-m", "keyring", "set", service, USER]
        subprocess.run(command, input=SECRET, text=True, check=True)

    return put


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = support.make_channel(tmp_path / "channel")
    support.add_package(folder, "base", files={"share/base.txt": "base 1\n"})
    return folder


@pytest.mark.parametrize("service", ["{host}", "http://{host}", "http://{host}/"])
@pytest.mark.parametrize("named_in", ["the address", "trainenv.toml"])
def test_a_channel_opens(
    store: Store, channel: Path, workspace: Workspace, trainenv: RunCommand, tmp_path: Path, service: str, named_in: str
) -> None:
    with support.guarded(channel, login=(USER, SECRET)) as server:
        store(service.format(host=server.host))
        if named_in == "the address":
            address = f"http://{USER}@{server.host}"
        else:
            address = server.url
            with workspace.settings.file.open("a") as settings:
                settings.write(f'[credentials."{server.host}"]\nusername = "{USER}"\n')
        done = trainenv(workspace, "create", "-n", "one", "-c", address, "base", "--json")
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert support.holders_of_secret(SECRET, workspace.settings.root, workspace.settings.cache_dir) == []


def test_an_index_opens(store: Store, workspace: Workspace, trainenv: RunCommand, tmp_path: Path) -> None:
    wheel = support.make_wheel(tmp_path / "index" / "greeter", "greeter")
    (wheel.parent / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    requirements = tmp_path / "requirements.txt"
    with support.guarded(tmp_path / "index", login=(USER, SECRET)) as server:
        store(server.url)
        requirements.write_text(f"--index-url http://{USER}@{server.host}\ngreeter\n")
        done = trainenv(workspace, "create", "-n", "one", f"python={python_here()}", "-r", str(requirements))
    assert done.returncode == 0, done.stderr
    assert "1 downloaded" in done.stderr  # This index tells no sizes.
    assert SECRET not in done.stdout + done.stderr
    assert support.holders_of_secret(SECRET, workspace.settings.root, workspace.settings.cache_dir) == []


def test_without_a_user_the_doctor_says_what_to_add(store: Store, workspace: Workspace, trainenv: RunCommand) -> None:
    store("lab.example")
    with workspace.settings.file.open("a") as settings:
        settings.write('[credentials."lab.example"]\nkeyring = true\n')
    assert "username = … there" in trainenv(workspace, "doctor").stdout

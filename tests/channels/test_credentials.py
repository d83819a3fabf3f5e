"""Secrets open channels and indexes, and stand in nothing that is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import support
from tests.conftest import MakeWorkspace, RunCommand, program, python_here
from trainenv import Workspace
from trainenv.channels import conda
from trainenv.channels.access import Access
from trainenv.channels.credentials import Credentials
from trainenv.channels.pypi import pip_settings
from trainenv.credentials import without_credentials
from trainenv.errors import ChannelError, InstallError, SolveError, TrainenvError, UsageError

USER, SECRET = "reader", "s3cret-Pa55word"


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = support.make_channel(tmp_path / "channel")
    support.add_package(folder, "base", files={"share/base.txt": "base 1\n"})
    return folder


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder that, served, is a PyPI index with one wheel (``simple/``) and a plain folder of another."""
    folder = tmp_path / "index"
    wheel = support.make_wheel(folder / "files", "greeter")
    direct = support.make_wheel(folder / "direct", "stranger")
    (folder / "direct" / "index.html").write_text(f'<a href="{direct.name}">{direct.name}</a>')
    (folder / "simple" / "greeter").mkdir(parents=True)
    (folder / "simple" / "greeter" / "index.html").write_text(f'<a href="../../files/{wheel.name}">{wheel.name}</a>')
    return folder


@pytest.fixture
def nothing_of_pip(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No settings of pip's; what a test sets through this is read anew."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    pip_settings.cache_clear()
    yield monkeypatch
    pip_settings.cache_clear()


def _settings(server: support.Server, more: str = "") -> str:
    return f'channels = ["{server.url}"]\nhost_fallback = false\ncache_dir = "cache"\n{more}\n'


def _bare(make_workspace: MakeWorkspace, tmp_path: Path, settings: str) -> Workspace:
    """A workspace with a cache of its own, so that all it wrote lies in one folder."""
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "trainenv.toml").write_text(settings)
    return Workspace(root)


@pytest.mark.parametrize(
    ("address", "clean"),
    [
        ("https://user:pw@host/channel", "https://host/channel"),
        ("https://user@host:8443/channel", "https://host:8443/channel"),
        ("https://u:p@ss@host/c", "https://host/c"),
        ("https://host/t/TOKEN-1/channel", "https://host/channel"),
        ("https://host/sub/t/TOKEN/channel/noarch/a.conda", "https://host/sub/channel/noarch/a.conda"),
        ("git+https://user:pw@host/repo@main", "git+https://host/repo@main"),
        ("git+ssh://git@host/repo", "git+ssh://git@host/repo"),
        ("ssh://git:pw@host/repo", "ssh://git@host/repo"),
        ("file:///home/t/data/channel", "file:///home/t/data/channel"),
        ("error (https://u:p@a/t/x/y) and http://v:q@b/c", "error (https://a/y) and http://b/c"),
        ("conda-forge", "conda-forge"),
    ],
)
def test_the_public_form_of_an_address(address: str, clean: str) -> None:
    assert without_credentials(address) == clean
    assert without_credentials(clean) == clean


@given(st.text(st.characters(codec="ascii", exclude_characters="/?#[]", exclude_categories=("C", "Z")), min_size=1))
def test_no_password_survives_whatever_it_is_made_of(password: str) -> None:
    assert without_credentials(f"get https://user:{password}@host.example/c now") == "get https://host.example/c now"


def test_a_password_in_the_address_opens_the_channel_and_is_nowhere(
    make_workspace: MakeWorkspace, tmp_path: Path, channel: Path, trainenv: RunCommand
) -> None:
    with support.guarded(channel, login=(USER, SECRET)) as server:
        place = _bare(make_workspace, tmp_path, 'cache_dir = "cache"\nhost_fallback = false\n')
        made = trainenv(place, "create", "-n", "one", "-c", server.address(USER, SECRET), "base")
        assert made.returncode == 0, made.stderr
        shown = [trainenv(place, *command.split()) for command in ("list -n one", "env show one --json", "doctor")]
        packed = trainenv(place, "pack", "-n", "one", "-o", str(tmp_path / "one.tar.zst"))
        assert packed.returncode == 0, packed.stderr
    assert (place.settings.prefix_of("one") / "share/base.txt").is_file()
    assert SECRET not in "".join(done.stdout + done.stderr for done in [made, packed, *shown])
    assert support.holders_of_secret(SECRET, place.settings.root, tmp_path / "one.tar.zst") == []
    record = json.loads((place.settings.prefix_of("one") / "conda-meta/base-1.0-0.json").read_bytes())
    assert record["url"] == f"{server.url}/noarch/base-1.0-0.tar.bz2"


def test_a_token_in_the_address_opens_the_channel_and_is_nowhere(
    make_workspace: MakeWorkspace, tmp_path: Path, channel: Path, trainenv: RunCommand
) -> None:
    root = tmp_path / "server"
    root.mkdir()
    channel.rename(root / "lab")
    with support.guarded(root, token=SECRET) as server:
        place = _bare(make_workspace, tmp_path, 'cache_dir = "cache"\nhost_fallback = false\n')
        made = trainenv(place, "create", "-n", "one", "-c", f"{server.url}/t/{SECRET}/lab", "base")
        assert made.returncode == 0, made.stderr
        wrong = trainenv(place, "create", "-n", "two", "-c", f"{server.url}/t/not-{SECRET}/lab", "base")
    assert wrong.returncode == 1
    assert "401" in wrong.stderr
    assert SECRET not in made.stdout + made.stderr + wrong.stdout + wrong.stderr
    assert support.holders_of_secret(SECRET, place.settings.root) == []


@pytest.mark.parametrize("how", ["netrc", "variables", "keyring"])
def test_secrets_kept_elsewhere_open_the_channel(
    how: str,
    make_workspace: MakeWorkspace,
    tmp_path: Path,
    channel: Path,
    own_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with support.guarded(channel, login=(USER, SECRET)) as server:
        more = ""
        if how == "netrc":
            (own_home / ".netrc").write_text(f"machine 127.0.0.1 login {USER} password {SECRET}\n")
        elif how == "variables":
            monkeypatch.setenv("LAB_PASSWORD", SECRET)
            more = f'[credentials."{server.host}"]\nusername = "{USER}"\npassword_env = "LAB_PASSWORD"'
        else:
            _fake_keyring(tmp_path / "bin", monkeypatch, server.host)
        place = _bare(make_workspace, tmp_path, _settings(server, more))
        made = place.create("one", "base")
    assert [package.name for package in made.packages] == ["base"]
    assert support.holders_of_secret(SECRET, place.settings.root) == []


def _fake_keyring(folder: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """The ``keyring`` program as far as it is asked: ``--mode creds --output json get SERVICE``."""
    folder.mkdir()
    answer = json.dumps({"username": USER, "password": SECRET})
    script = folder / "keyring"
    script.write_text(f'#!/bin/sh\ncase "$*" in *"get {host}"*) echo \'{answer}\';; *) exit 1;; esac\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_bearer_token_from_a_variable(
    make_workspace: MakeWorkspace, tmp_path: Path, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_TOKEN", SECRET)
    with support.guarded(channel, bearer=SECRET) as server:
        place = _bare(make_workspace, tmp_path, _settings(server, '[credentials."127.0.0.1"]\ntoken_env = "LAB_TOKEN"'))
        assert place.create("one", "base").packages
    assert support.holders_of_secret(SECRET, place.settings.root) == []


def test_a_channel_that_asks_who_we_are_says_what_to_do(
    make_workspace: MakeWorkspace, tmp_path: Path, channel: Path
) -> None:
    with support.guarded(channel, login=(USER, SECRET)) as server:
        place = _bare(make_workspace, tmp_path, _settings(server))
        with pytest.raises(ChannelError, match=r"401.*netrc"):
            place.create("one", "base")


def test_secrets_go_to_their_own_host_only(make_workspace: MakeWorkspace, tmp_path: Path, channel: Path) -> None:
    with support.guarded(channel) as other:
        place = _bare(make_workspace, tmp_path, _settings(other))
        access = Access.of(place.settings, [f"https://{USER}:{SECRET}@elsewhere.example/channel"])
        sources, _ = conda.reach(place.settings, [other.url], access)
        conda.solve(sources, ["base"], cache_dir=tmp_path / "cache", access=access)
    assert other.requests
    assert {authorization for _, authorization in other.requests} == {""}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"password": "x"}, "never stands"),
        ({"token_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_a_wrong_table_is_explained(table: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Credentials({"host.example": table}).find("host.example")


def test_a_broken_netrc_is_named_without_its_content(own_home: Path) -> None:
    (own_home / ".netrc").write_text(f"machine h login u passwort {SECRET}\n")
    with pytest.raises(UsageError, match="netrc") as error:
        Credentials()
    assert SECRET not in str(error.value)


# Indexes of PyPI packages


def _index_url(server: support.Server, how: str) -> str:
    if how == "user":
        return f"{server.address(USER, SECRET)}/simple"
    return f"{server.url}/t/{SECRET}/simple" if how == "token" else f"{server.url}/simple"


@pytest.mark.parametrize("how", ["user", "token", "netrc", "variables"])
def test_an_index_behind_a_secret(
    how: str,
    make_workspace: MakeWorkspace,
    workspace: Workspace,
    index: Path,
    own_home: Path,
    nothing_of_pip: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    options = {"token": SECRET} if how == "token" else {"login": (USER, SECRET)}
    with support.guarded(index, **options) as server:
        place = workspace
        if how == "netrc":
            (own_home / ".netrc").write_text(f"machine 127.0.0.1 login {USER} password {SECRET}\n")
        elif how == "variables":
            nothing_of_pip.setenv("LAB_PASSWORD", SECRET)
            table = f'[credentials."127.0.0.1"]\nusername = "{USER}"\npassword_env = "LAB_PASSWORD"'
            place = make_workspace("with_table", f'channels = ["host"]\n{table}')
        nothing_of_pip.setenv("PIP_INDEX_URL", _index_url(server, how))
        pip_settings.cache_clear()
        requirements = tmp_path / "requirements.txt"
        requirements.write_text("greeter\n")
        made = place.create("one", f"python={python_here()}", files=[requirements])
        place.pack(made, tmp_path / "one.tar.zst")
    assert "greeter" in {package.name for package in made.packages}
    cache = place.settings.cache_dir
    assert support.holders_of_secret(SECRET, place.settings.root, tmp_path / "one.tar.zst", cache) == []


def test_secrets_in_a_requirements_file(
    workspace: Workspace, index: Path, nothing_of_pip: pytest.MonkeyPatch, tmp_path: Path, trainenv: RunCommand
) -> None:
    with support.guarded(index, login=(USER, SECRET)) as server:
        own = server.address(USER, SECRET)
        (tmp_path / "indexes.txt").write_text(f"--index-url {own}/simple\n")
        requirements = tmp_path / "requirements.txt"
        requirements.write_text(f"-r indexes.txt\ngreeter\nstranger @ {own}/direct/stranger-1.0-py3-none-any.whl\n")
        made = trainenv(workspace, "create", "-n", "one", f"python={python_here()}", "-r", str(requirements))
        assert made.returncode == 0, made.stderr
        requirements.write_text("-r indexes.txt\nno-such-thing\n")
        failed = trainenv(workspace, "install", "-n", "one", "-r", str(requirements))
    assert failed.returncode == 1
    assert SECRET not in made.stdout + made.stderr + failed.stdout + failed.stderr
    names = {package.name for package in workspace.environment("one").packages}
    assert {"greeter", "stranger"} <= names
    assert support.holders_of_secret(SECRET, workspace.settings.root, workspace.settings.cache_dir) == []


def test_no_option_of_uv_holds_a_secret(
    workspace: Workspace, index: Path, nothing_of_pip: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with support.guarded(index, login=(USER, SECRET)) as server:
        nothing_of_pip.setenv("PIP_INDEX_URL", f"{server.address(USER, SECRET)}/simple")
        nothing_of_pip.setenv("PIP_EXTRA_INDEX_URL", f"{server.address(USER, SECRET)}/simple")
        nothing_of_pip.setenv("PIP_FIND_LINKS", f"{server.address(USER, SECRET)}/direct/")
        uv = tmp_path / "bin" / "uv"
        uv.parent.mkdir()
        from trainenv.channels.pypi import find_uv

        uv.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/options"\nexec "{find_uv()}" "$@"\n')
        uv.chmod(0o755)
        requirements = tmp_path / "requirements.txt"
        requirements.write_text("greeter\n")
        script = (
            "import sys, uv; path = sys.argv.pop(); uv.find_uv_bin = lambda: path; "
            "from trainenv.cli import _guarded; sys.exit(_guarded(sys.argv[1:]))"
        )
        command = program(workspace, "create", "-n", "one", f"python={python_here()}", "-r", str(requirements))
        done = subprocess.run(
            [sys.executable, "-c", script, *command[3:], str(uv)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "--python" in (tmp_path / "options").read_text()
    assert SECRET not in (tmp_path / "options").read_text()


def test_errors_of_every_part_are_without_credentials(
    make_workspace: MakeWorkspace, tmp_path: Path, index: Path, nothing_of_pip: pytest.MonkeyPatch
) -> None:
    """Wrong passwords everywhere: all messages name the host, none the secret."""
    place = make_workspace()
    with support.guarded(index, login=("someone", "else")) as server:
        messages = []
        for address in (server.address(USER, SECRET), f"{server.url}/t/{SECRET}/x"):
            with pytest.raises(TrainenvError) as error:
                place.create("one", "base", channels=[address])
            messages.append(str(error.value))
        nothing_of_pip.setenv("PIP_INDEX_URL", f"{server.address(USER, SECRET)}/simple")
        pip_settings.cache_clear()
        (tmp_path / "requirements.txt").write_text("greeter\n")
        with pytest.raises((SolveError, InstallError)) as error:
            place.create("one", f"python={python_here()}", files=[tmp_path / "requirements.txt"])
        messages.append(str(error.value))
    assert all(SECRET not in message for message in messages)
    assert all(server.host in message or "greeter" in message for message in messages)


def test_a_secret_in_a_package_specification_is_nowhere(tmp_path: Path, channel: Path, trainenv: RunCommand) -> None:
    with support.guarded(channel, login=(USER, SECRET)) as server:
        root = tmp_path / "workspace"
        root.mkdir()
        (root / "trainenv.toml").write_text(f'channels = ["{server.url}"]\nhost_fallback = false\n')
        place = Workspace(root)
        made = trainenv(place, "create", "-n", "one", f"{server.address(USER, SECRET)}::base")
        assert made.returncode == 0, made.stderr
    assert SECRET not in made.stdout + made.stderr
    assert support.holders_of_secret(SECRET, root) == []

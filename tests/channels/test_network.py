"""Proxies, certificates, offline, priorities, and what the user told conda of all that."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import support
from tests.conftest import RunCommand, python_here
from tests.environments.test_generations import contents
from trainenv import Workspace
from trainenv.channels import condarc
from trainenv.channels.pypi import pip_settings
from trainenv.errors import ChannelError, InstallError, SolveError, TrainenvError, UsageError

PROXIES = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"]
ROOTS = ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "PIP_CERT"]


@pytest.fixture(autouse=True)
def plain_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No proxy, certificates or conda settings but those of the test."""
    for name in [*PROXIES, *(name.upper() for name in PROXIES), *ROOTS, "CONDARC"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    pip_settings.cache_clear()
    yield
    pip_settings.cache_clear()


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = support.make_channel(tmp_path / "channel")
    support.add_package(folder, "base", files={"share/base.txt": "base 1\n"})
    return folder


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Root certificate, and a server's certificate with its key."""
    return support.make_certificate(tmp_path_factory.mktemp("certificates"))


def _workspace(tmp_path: Path, settings: str, name: str = "workspace") -> Workspace:
    root = tmp_path / name
    root.mkdir()
    (root / "trainenv.toml").write_text(f"host_fallback = false\n{settings}\n")
    return Workspace(root)


@pytest.mark.parametrize("told", ["setting", "variable", "condarc"])
def test_all_requests_go_through_the_proxy(
    told: str, tmp_path: Path, channel: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    with support.guarded(channel) as server, support.proxy(("me", "pr0xy-pw")) as proxy:
        settings = f'channels = ["{server.url}"]\n'
        address = proxy.address("me", "pr0xy-pw")
        if told == "setting":
            settings += f'proxy = "{address}"'
        elif told == "variable":
            monkeypatch.setenv("HTTP_PROXY", address)
            monkeypatch.setenv("http_proxy", address)
        else:
            (own_home / ".condarc").write_text(f"proxy_servers:\n  http: {address}\n")
        place = _workspace(tmp_path, settings)
        made = place.create("one", "base")
    assert len(server.requests) == len(proxy.requests)
    assert any(url.endswith("base-1.0-0.tar.bz2") for url, _ in proxy.requests)
    assert made.packages
    assert support.holders_of_secret("pr0xy-pw", place.settings.envs_dir, place.settings.cache_dir) == []


def test_uv_goes_through_the_proxy_as_well(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = support.make_wheel(tmp_path / "index/files", "greeter")
    page = tmp_path / "index/simple/greeter/index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="../../files/{wheel.name}">{wheel.name}</a>')
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with support.guarded(tmp_path / "index") as server, support.proxy() as proxy:
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
        pip_settings.cache_clear()
        place = _workspace(tmp_path, f'channels = ["host"]\nproxy = "{proxy.url}"\ncache_dir = "{shared_cache}"')
        (tmp_path / "requirements.txt").write_text("greeter\n")
        one = place.create("one", f"python={python_here()}", files=[tmp_path / "requirements.txt"])
        assert any(url.endswith(wheel.name) for url, _ in proxy.requests)
        proxy.requests.clear()
        place.create("two", files=[one.prefix / "conda-meta/trainenv/pixi.lock"])
    assert not proxy.requests, "the cache has it, with its hash"


@pytest.mark.parametrize("told", ["setting", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "condarc"])
def test_a_certificate_authority_of_ones_own(
    told: str,
    tmp_path: Path,
    channel: Path,
    authority: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    own_home: Path,
) -> None:
    roots, certificate = authority
    with support.guarded(channel, certificate=certificate) as server:
        settings = f'channels = ["{server.url}"]\n'
        untrusting = _workspace(tmp_path, settings, "untrusting")
        with pytest.raises(ChannelError, match=r"certificate is not trusted.*ssl_cert_file"):
            untrusting.create("one", "base")
        if told == "setting":
            settings += f'ssl_cert_file = "{roots}"'
        elif told == "condarc":
            (own_home / ".condarc").write_text(f"ssl_verify: {roots}\n")
        else:
            monkeypatch.setenv(told, str(roots))
        assert _workspace(tmp_path, settings).create("one", "base").packages


def test_a_missing_file_of_roots_is_named(tmp_path: Path) -> None:
    place = _workspace(tmp_path, 'channels = ["x"]\nssl_cert_file = "gone.pem"')
    with pytest.raises(UsageError, match=r"gone\.pem"):
        place.create("one", "base")


def test_offline_uses_the_cache_and_sends_nothing(tmp_path: Path, channel: Path, trainenv: RunCommand) -> None:
    support.add_package(channel, "late", files={"share/late.txt": "late\n"})
    with support.guarded(channel) as server:
        place = _workspace(tmp_path, f'channels = ["{server.url}"]')
        place.create("one", "base")
        server.requests.clear()
        offline = trainenv(place, "create", "--offline", "-n", "two", "base")
        assert offline.returncode == 0, offline.stderr
        missing = trainenv(place, "create", "--offline", "-n", "three", "late")
        assert server.requests == []
    assert missing.returncode == 1
    assert "late-1.0-0" in missing.stderr
    assert "offline" in missing.stderr
    assert {one.name for one in place.environments()} == {"one", "two"}


@pytest.mark.parametrize("told", ["setting", "variable"])
def test_offline_without_an_index_says_so(
    told: str, tmp_path: Path, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if told == "variable":
        monkeypatch.setenv("TRAINENV_OFFLINE", "1")
    with support.guarded(channel) as server:
        more = "offline = true" if told == "setting" else ""
        place = _workspace(tmp_path, f'channels = ["{server.url}"]\n{more}')
        with pytest.raises(ChannelError, match=r"(?i)offline"):
            place.create("one", "base")
        assert server.requests == []


def test_offline_holds_for_uv(
    tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch, channel: Path
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with support.guarded(channel) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
        pip_settings.cache_clear()
        place = _workspace(tmp_path, f'channels = ["host"]\noffline = true\ncache_dir = "{shared_cache}"')
        (tmp_path / "requirements.txt").write_text("never-seen-before\n")
        with pytest.raises((SolveError, InstallError), match="never-seen-before"):
            place.create("one", f"python={python_here()}", files=[tmp_path / "requirements.txt"])
        assert server.requests == []


@pytest.mark.parametrize(("priority", "version"), [("strict", None), ("flexible", "1.0"), ("disabled", "2.0")])
def test_channel_priority(tmp_path: Path, priority: str, version: str | None) -> None:
    """``first`` has tool 1, ``second`` tool 2 and also what ``app`` needs; ``both`` is in the second only."""
    first, second = (support.make_channel(tmp_path / name) for name in ("first", "second"))
    support.add_package(first, "tool", "1.0", files={"share/tool.txt": "1\n"})
    support.add_package(first, "part", "1.0", files={"share/part.txt": "1\n"})
    support.add_package(second, "tool", "2.0", files={"share/tool.txt": "2\n"})
    support.add_package(second, "part", "2.0", files={"share/part.txt": "2\n"})
    support.add_package(second, "app", depends=["part >=2"])
    place = _workspace(tmp_path, f'channels = ["{first}", "{second}"]\nchannel_priority = "{priority}"')
    if version is None:
        with pytest.raises(SolveError):
            place.create("one", "app", "tool")
        return
    versions = {package.name: package.version for package in place.create("one", "app", "tool").packages}
    assert versions == {"app": "1.0", "part": "2.0", "tool": version}


def test_a_wrong_priority_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="strict, flexible, disabled"):
        _workspace(tmp_path, 'channel_priority = "loose"')


# .condarc


def test_condarc_speaks_where_trainenv_toml_is_silent(
    tmp_path: Path, channel: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_home / ".condarc").write_text(
        "channels: [lab, defaults]\n"
        "channel_alias: https://alias.example/conda\n"
        "channel_priority: false\n"
        f"custom_channels:\n  lab: {channel.parent.as_uri()}\n"
        f"default_channels: ['{channel.as_uri()}']\n"
    )
    channel.rename(channel.parent / "lab")
    support.add_package(support.make_channel(channel), "other", files={"share/other.txt": "other\n"})
    silent = _workspace(tmp_path, "", "silent")
    told = condarc.applied(silent.settings)
    assert told.channels == ("lab", channel.as_uri())
    assert told.channel_alias == "https://alias.example/conda/"
    assert told.channel_priority == "disabled"
    assert {package.name for package in silent.create("one", "base", "other").packages} == {"base", "other"}
    spoken = _workspace(tmp_path, 'channels = ["mine"]\nchannel_priority = "flexible"', "spoken")
    assert condarc.applied(spoken.settings).channels == ("mine",)
    assert condarc.applied(spoken.settings).channel_priority == "flexible"


def test_the_last_of_several_condarc_files_wins(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config/conda").mkdir(parents=True)
    (tmp_path / "config/conda/.condarc").write_text("channels: [a]\nchannel_priority: strict\n")
    (own_home / ".conda").mkdir()
    (own_home / ".conda/.condarc").write_text("channels: [b]\n")
    (own_home / ".condarc").write_text("channels: [c]\n")
    (tmp_path / "named").write_text("channels: [d]\n")
    assert condarc.read().values["channels"] == ["c"]
    monkeypatch.setenv("CONDARC", str(tmp_path / "named"))
    found = condarc.read()
    assert found.values == {"channels": ["d"], "channel_priority": "strict"}
    assert found.origin["channels"] == tmp_path / "named"


@pytest.mark.parametrize("text", ["channels: {", "- a\n- b\n", "channels: {a: b}\n", "proxy_servers: [a]\n"])
def test_a_wrong_condarc_is_named_without_its_content(tmp_path: Path, own_home: Path, text: str) -> None:
    (own_home / ".condarc").write_text(f"{text}# s3cret\n")
    with pytest.raises(UsageError, match=r"\.condarc") as error:
        condarc.applied(_workspace(tmp_path, "").settings)
    assert "s3cret" not in str(error.value)


# A bad line


def test_a_download_that_breaks_off_is_taken_up_again(tmp_path: Path, channel: Path) -> None:
    with support.guarded(channel, drops=1) as server:
        place = _workspace(tmp_path, f'channels = ["{server.url}"]')
        made = place.create("one", "base")
    assert (made.prefix / "share/base.txt").read_text() == "base 1\n"
    assert sum(path.endswith("base-1.0-0.tar.bz2") for path, _ in server.requests) == 2


def test_a_line_that_always_breaks_is_told_and_leaves_nothing(tmp_path: Path, channel: Path) -> None:
    with support.guarded(channel, drops=1000) as server:
        place = _workspace(tmp_path, f'channels = ["{server.url}"]')
        with pytest.raises(TrainenvError, match="base"):
            place.create("one", "base")
    assert place.environments() == []
    assert not list(place.settings.cache_dir.glob("pkgs/base*/info/index.json"))


def test_a_line_that_always_breaks_leaves_an_environment_byte_for_byte(tmp_path: Path, channel: Path) -> None:
    place = _workspace(tmp_path, f'channels = ["{channel}"]')
    made = place.create("one", "base")
    before = contents(made.prefix)
    far = support.make_channel(tmp_path / "far")
    support.add_package(far, "base", "2.0", files={"share/base.txt": os.urandom(20_000).hex()})
    support.add_package(far, "more", depends=["base >=2"])
    with support.guarded(far, drops=1000) as server, pytest.raises(TrainenvError, match="could not be fetched"):
        place.install("one", "more", channels=[server.url])
    assert contents(made.prefix) == before
    assert len(place.generations("one")) == 1


def test_a_slow_server_is_waited_for(tmp_path: Path, channel: Path) -> None:
    support.add_package(channel, "wide", files={f"share/{n}.txt": os.urandom(2000).hex() for n in range(10)})
    with support.guarded(channel, bytes_per_second=20_000) as server:
        made = _workspace(tmp_path, f'channels = ["{server.url}"]').create("one", "wide")
    assert len(list((made.prefix / "share").iterdir())) == 10


def test_eight_creates_share_one_cold_cache(tmp_path: Path, channel: Path) -> None:
    for name in ("one", "two", "three"):
        support.add_package(
            channel, name, depends=["base"], files={f"share/{name}/{n}.txt": os.urandom(500).hex() for n in range(40)}
        )
    with support.guarded(channel, bytes_per_second=400_000) as server:
        place = _workspace(tmp_path, f'channels = ["{server.url}"]')
        command = [sys.executable, "-m", "trainenv", "--workspace", str(place.settings.root), "create"]
        running = [
            subprocess.Popen(
                [*command, "-n", f"env{number}", "one", "two", "three"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(8)
        ]
        errors = [process.communicate(timeout=100)[1] for process in running]
    assert [process.returncode for process in running] == [0] * 8, errors
    made = place.environments()
    assert len(made) == 8
    for environment in made:
        assert place.verify(environment).problems == []
        assert {package.name for package in environment.packages} == {"base", "one", "two", "three"}

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import support
from trainenv.channels.access import Access
from trainenv.channels.pypi import (
    constraint_options,
    learn_indexes,
    pip_settings,
    run_uv,
    uv_environment,
    uv_options,
)
from trainenv.channels.uv_settings import uv_files
from trainenv.errors import ChannelError


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    for name in ("SSL_CERT_FILE", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "site"))
    pip_settings.cache_clear()


def _conf(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def _index(tmp_path: Path) -> str:
    pip_settings.cache_clear()
    return uv_environment(tmp_path)["UV_DEFAULT_INDEX"]


def test_each_source_wins_over_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _conf(tmp_path / "site/pip/pip.conf", "[global]\nindex-url = https://site/\n")
    assert _index(tmp_path) == "https://site/"
    _conf(tmp_path / "config/pip/pip.conf", "[global]\nindex_url = https://user/\n")
    assert _index(tmp_path) == "https://user/"
    _conf(tmp_path / "config/pip/pip.conf", "[install]\nindex-url = https://install/\n")
    assert _index(tmp_path) == "https://install/"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(_conf(tmp_path / "own.conf", "[global]\ntimeout = 5\n")))
    assert _index(tmp_path) == "https://site/", "with PIP_CONFIG_FILE pip leaves the user's file out"
    monkeypatch.setenv("PIP_INDEX_URL", "https://variable/")
    assert _index(tmp_path) == "https://variable/"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv/")
    assert _index(tmp_path) == "https://uv/"


def test_no_file_is_read_with_an_empty_one_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _conf(tmp_path / "config/pip/pip.conf", "[global]\nindex-url = https://user/\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    pip_settings.cache_clear()
    assert "index-url" not in pip_settings()


def test_lists_have_words_and_paths_may_have_blanks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    (own_home / "wheels").mkdir()
    (tmp_path / "near").mkdir()
    _conf(
        tmp_path / "config/pip/pip.conf",
        "[global]\nextra-index-url =\n    https://one/%20x\n    https://two/\ncert = ~/my certificates/ca.pem\n"
        "find-links =\n    ~/wheels\n    near\n    /not/there\n    https://wheels/\ntrusted-host = a b\n"
        "timeout = 2.6\nproxy = http://proxy:1\nno-index = yes\nconstraint = c.txt\nonly-binary = numpy,scipy\n",
    )
    monkeypatch.chdir(tmp_path)
    found = uv_environment(tmp_path)
    assert found["UV_INDEX"] == "https://one/%20x https://two/"
    assert found["SSL_CERT_FILE"] == f"{own_home}/my certificates/ca.pem"
    assert (found["UV_HTTP_TIMEOUT"], found["ALL_PROXY"]) == ("3", "http://proxy:1")
    options = uv_options()
    links = [options[i + 1] for i, option in enumerate(options) if option == "--find-links"]
    assert links == [f"{own_home}/wheels", f"{tmp_path}/near", "https://wheels/"]
    assert "--no-index" in options
    assert [option for option in options if option in ("a", "b", "numpy", "scipy")] == ["a", "b", "numpy", "scipy"]
    assert constraint_options() == ["--constraint", f"{tmp_path}/c.txt"]


def test_a_password_is_not_on_a_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:s3cret@index/")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://me:s3cret@other/")
    pip_settings.cache_clear()
    assert "s3cret" not in " ".join(uv_options())
    assert _index(tmp_path) == "https://me:s3cret@index/"


@pytest.mark.parametrize("text", ["[global\n", "[global]\n[global]\n", "[global]\na = 1\na = 2\n", "x"])
def test_a_broken_file_is_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    file = _conf(tmp_path / "pip.conf", text)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    with pytest.raises(ChannelError) as error:
        pip_settings()
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_timeout_that_is_no_number_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "soon")
    with pytest.raises(ChannelError, match="soon"):
        uv_environment(tmp_path)


def test_what_uv_has_started_ends_with_it(tmp_path: Path) -> None:
    """A build from source in progress, and its caller is interrupted."""
    building = tmp_path / "building"
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (tmp_path / "backend.py").write_text(
        f"import os, time\nopen({str(building)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )

    def interrupt(_: str) -> None:
        deadline = time.monotonic() + 60
        while not building.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_uv(
            ["build", "--wheel", "--verbose", "--python", sys.executable, str(tmp_path)],
            cache_dir=tmp_path / "cache",
            on_line=interrupt,
        )
    builder = building.read_text()
    deadline = time.monotonic() + 20
    while (state := _state(builder)) not in ("", "Z") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert state in ("", "Z")


def _state(pid: str) -> str:
    done = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False)
    return done.stdout.strip()[:1]


def test_what_uv_was_told_itself_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's file, one beside the requirements, and one that a variable names."""
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip/")
    monkeypatch.chdir(tmp_path)
    assert _index(tmp_path) == "https://pip/"
    assert "--index-strategy" in uv_options()
    own = _conf(tmp_path / "config/uv/uv.toml", '[[index]]\nurl = "https://me:s3cret@extra/"\n')
    assert _index(tmp_path) == "https://pip/", "an index more is no other default"
    _conf(own, 'index-strategy = "first-index"\n[[index]]\nurl = "https://me:s3cret@own/"\ndefault = true\n')
    assert "UV_DEFAULT_INDEX" not in uv_environment(tmp_path)
    assert "--index-strategy" not in uv_options()
    assert [file.summary for file in uv_files()] == ["index, index-strategy (https://own/)"]
    access = Access()
    learn_indexes(access)
    assert access.credentials.secrets == {"s3cret"}
    own.unlink()
    _conf(tmp_path / "project/pyproject.toml", '[tool.uv.pip]\nindex-url = "https://project/"\n')
    (tmp_path / "project/deep").mkdir()
    assert "UV_DEFAULT_INDEX" not in uv_environment(tmp_path, tmp_path / "project/deep")
    assert "UV_DEFAULT_INDEX" in uv_environment(tmp_path, tmp_path)
    monkeypatch.setenv("UV_CONFIG_FILE", str(_conf(tmp_path / "named.toml", 'index-url = "https://named/"\n')))
    assert "UV_DEFAULT_INDEX" not in uv_environment(tmp_path)
    monkeypatch.setenv("UV_CONFIG_FILE", str(_conf(tmp_path / "broken.toml", "index-url = \n")))
    assert uv_files() == []


def test_uv_really_asks_the_index_of_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    support.make_wheel(tmp_path / "wheels", "greeter", "3.0")
    monkeypatch.setenv("PIP_INDEX_URL", support.refusing())
    with support.served(tmp_path / "wheels") as url:
        _conf(tmp_path / "wheels/simple/greeter/index.html", '<a href="../../greeter-3.0-py3-none-any.whl">.</a>')
        _conf(tmp_path / "config/uv/uv.toml", f'index-url = "{url}/simple"\n')
        pip_settings.cache_clear()
        arguments = ["pip", "compile", "--python", sys.executable, *uv_options(), "-o", str(tmp_path / "out.txt"), "-"]
        code, output = run_uv(arguments, cache_dir=tmp_path / "cache", folder=tmp_path, standard_input="greeter\n")
    assert code == 0, output
    assert "greeter==3.0" in (tmp_path / "out.txt").read_text()

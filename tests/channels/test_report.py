from __future__ import annotations

import http.server
import json
import os
import threading
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, RunCommand
from trainenv import Workspace

SECRET = "s3cret-word"


def _examined(place: Workspace, trainenv: RunCommand) -> dict[str, list[tuple[str, str]]]:
    """State and text of each finding of the doctor, by its name."""
    done = trainenv(place, "doctor", "--json")
    assert SECRET not in done.stdout + done.stderr
    found: dict[str, list[tuple[str, str]]] = {}
    for item in json.loads(done.stdout)["findings"]:
        found.setdefault(item["name"], []).append((item["state"], item["text"]))
    return found


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "config-of-all"))
    (tmp_path / "pip.conf").touch()


def _index(folder: Path) -> Path:
    (folder / "pip").mkdir(parents=True)
    for page in (folder, folder / "pip"):
        (page / "index.html").write_text("<html></html>")
    return folder


def test_each_index_is_shown_with_where_it_stands_and_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: Workspace, trainenv: RunCommand
) -> None:
    pip_conf, uv_toml, gone = tmp_path / "pip.conf", tmp_path / "config" / "uv" / "uv.toml", tmp_path / "none"
    with (
        support.guarded(_index(tmp_path / "alive"), login=("me", SECRET)) as alive,
        support.guarded(_index(tmp_path / "shut"), login=("me", "another")) as shut,
    ):
        pip_conf.write_text(f"[global]\nindex-url = {alive.address('me', SECRET)}\nfind-links = {gone}\n")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", shut.url)
        uv_toml.parent.mkdir(parents=True)
        uv_toml.write_text(f'extra-index-url = ["{alive.address("me", SECRET)}/pip"]\n')
        found = _examined(workspace, trainenv)
    assert {
        ("ok", f"{pip_conf}: find-links, index-url"),
        ("ok", "variable PIP_EXTRA_INDEX_URL: extra-index-url"),
    } <= {*found["pip settings"]}
    assert {
        ("ok", f"{alive.url}/pip ({uv_toml})"),
        ("ok", f"{alive.url} ({pip_conf})"),
        ("warning", f"{shut.url}: it wants to know who you are (HTTP status 401) (variable PIP_EXTRA_INDEX_URL)"),
        ("warning", f"{gone}: is not there ({pip_conf})"),
    } <= {*found["package index"]}, found["package index"]


def test_what_uv_s_own_settings_put_aside_is_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: Workspace, trainenv: RunCommand
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", support.refusing())
    with support.served(_index(tmp_path / "index")) as url:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"lab={url}")
        found = _examined(workspace, trainenv)
    assert {
        ("ok", f"{url} (variable UV_DEFAULT_INDEX)"),
        ("ok", "uv is answered by all that it asks"),
    } <= {*found["package index"]}, found["package index"]


def test_uv_s_own_default_is_tried_where_nobody_names_an_index(
    monkeypatch: pytest.MonkeyPatch, workspace: Workspace, trainenv: RunCommand
) -> None:
    monkeypatch.setenv("ALL_PROXY", support.refusing())
    state, text = _examined(workspace, trainenv)["package index"][-1]
    assert state == "warning"
    assert "Connection refused" in text


def test_a_cache_that_can_not_be_written_is_said(
    workspace: Workspace, trainenv: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINENV_OFFLINE", "1")
    monkeypatch.setenv("TRAINENV_CACHE_DIR", "/proc/self/cache")
    ((state, text),) = _examined(workspace, trainenv)["package cache"]
    assert (state, text.endswith("cache can't be written")) == ("error", True)


def test_channels_and_indexes_are_tried_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_workspace: MakeWorkspace, trainenv: RunCommand
) -> None:
    all_asked = threading.Barrier(3)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            try:
                all_asked.wait(3)
            except threading.BrokenBarrierError:
                self.send_error(503)
            else:
                self.send_response(200)
                self.end_headers()

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    with support.running(Handler) as url:
        monkeypatch.setenv("PIP_INDEX_URL", f"{url}/one")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{url}/two")
        found = _examined(make_workspace(settings=f'channels = ["{url}/channel"]'), trainenv)
    states = {text.split(" ")[0]: state for name in ("channel", "package index") for state, text in found[name]}
    assert {states[f"{url}/{name}"] for name in ("channel", "one", "two")} == {"ok"}, found

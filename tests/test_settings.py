from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainenv.credentials import without_credentials
from trainenv.errors import TrainenvError, UsageError
from trainenv.settings import Limits, checked_name, load


def _workspace(folder: Path, text: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "trainenv.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_without_a_file_everything_lies_in_the_workspace(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert (found.envs_dir, found.cache_dir) == (tmp_path / "envs", tmp_path / "cache")
    assert found.channels == ("conda-forge",)
    assert found.target_prefix_of("chat") == str(tmp_path / "envs" / "chat")


def test_paths_are_relative_to_the_workspace_and_know_home_and_links(tmp_path: Path, own_home: Path) -> None:
    _workspace(tmp_path / "real", 'envs_dir = "conda/envs"\ncache_dir = "~/cache"\nchannels = ["./local", "host"]\n')
    (tmp_path / "link").symlink_to("real")
    found = load(tmp_path / "link")
    assert found.envs_dir == tmp_path / "real/conda/envs"
    assert found.cache_dir == own_home.resolve() / "cache"
    assert found.channels == (str(tmp_path / "real/local"), "host")


def test_a_variable_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _workspace(tmp_path, 'envs_dir = "a"\nchannels = ["x"]\nhost_fallback = true\n')
    monkeypatch.setenv("TRAINENV_ENVS_DIR", "b")
    monkeypatch.setenv("TRAINENV_CHANNELS", "one, two three")
    monkeypatch.setenv("TRAINENV_HOST_FALLBACK", "No")
    found = load(tmp_path)
    assert found.envs_dir == tmp_path / "b"
    assert found.channels == ("one", "two", "three")
    assert found.host_fallback is False


def test_the_nearest_file_upward_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _workspace(tmp_path, "")
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    assert load().root == tmp_path


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert load(_workspace(tmp_path, b'\xef\xbb\xbfenvs_dir = "x"\n')).envs_dir == tmp_path / "x"


def test_visible_as_is_the_prefix_that_files_carry(tmp_path: Path) -> None:
    found = load(_workspace(tmp_path, 'visible_as = "/opt/conda/envs/"\n'))
    assert found.target_prefix_of("chat") == "/opt/conda/envs/chat"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("envs_dir = 3\n", "envs_dir"),
        ('envs_dir = ""\n', "envs_dir"),
        ('channels = "conda-forge"\n', "list"),
        ("channels = [3]\n", "list of texts"),
        ('host_fallback = "maybe"\n', "true or false"),
        ('visible_as = "envs"\n', "absolute"),
        ("mirrors = 3\n", "table"),
        ('[mirrors]\n"conda-forge" = 3\n', "mirrors.conda-forge"),
        ('[mirrors]\n"conda-forge" = [3]\n', "mirrors.conda-forge"),
        ("gpus = -1\n", "gpus"),
        ("gpus = [0.5]\n", "list of texts"),
        ("cpus = true\n", "whole number"),
        ('memory = "much"\n', "size"),
        ("limits = 3\n", "table"),
        ("[limits]\ntask = 3\n", "'task'"),
        ("[limits]\ntasks = 0\n", "limits.tasks"),
        ("[limits]\nmethods = {probe = 0}\n", "limits.methods.probe"),
        ("env_dir = 'x'\n", "'env_dir'. Did you mean 'envs_dir'?"),
        ("# ours\n\nquite_new = 1\n", "trainenv.toml line 3 has an unknown setting 'quite_new'. Known are: "),
        ("# ours\n  offline = false\ngenerations = -1\n", "generations in {file} line 3 must be"),
        ("gpus = 1\n[limits] # ours\ntasks = 0\n", "limits.tasks in {file} line 2 must be"),
        ("envs_dir = \n", "TOML"),
        (b"\xff\xff", "TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_in_one_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(UsageError) as error:
        load(_workspace(tmp_path, text))
    assert words.replace("{file}", str(tmp_path / "trainenv.toml")) in str(error.value)
    assert str(tmp_path / "trainenv.toml") in str(error.value)
    assert "\n" not in str(error.value)


def test_what_tasks_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = load(tmp_path)
    assert (found.gpus, found.cpus, found.memory, found.limits) == (None, None, None, Limits())
    assert found.queue_dir == tmp_path / "tasks/.queue"
    found = load(
        _workspace(tmp_path, 'tasks_dir = "runs"\ngpus = 4\nmemory = "1 GB"\n[limits]\ntasks = 3\nmethods = {a = 1}\n')
    )
    assert (found.gpus, found.memory, found.limits) == (4, 10**9, Limits(tasks=3, methods={"a": 1}))
    assert found.queue_dir == tmp_path / "runs/.queue"
    assert load(_workspace(tmp_path, 'gpus = [0, "GPU-1"]\n')).gpus == ("0", "GPU-1")
    monkeypatch.setenv("TRAINENV_GPUS", "2,3")
    monkeypatch.setenv("TRAINENV_QUEUE_DIR", "/queue")
    assert (load(tmp_path).gpus, load(tmp_path).queue_dir) == (("2", "3"), Path("/queue"))
    monkeypatch.setenv("TRAINENV_GPUS", "2")
    assert load(tmp_path).gpus == 2


def test_a_wrong_variable_is_named_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINENV_VISIBLE_AS", "relative")
    with pytest.raises(UsageError, match="TRAINENV_VISIBLE_AS"):
        load(tmp_path)
    monkeypatch.setenv("TRAINENV_VISIBLE_AS", "")
    monkeypatch.setenv("TRAINENV_HOST_FALLBACK", "perhaps")
    with pytest.raises(UsageError, match="TRAINENV_HOST_FALLBACK"):
        load(tmp_path)


def test_a_folder_in_the_files_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "trainenv.toml").mkdir()
    with pytest.raises(UsageError, match="can't be read"):
        load(tmp_path)


def test_a_current_folder_that_was_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="not there any more"):
        load()
    assert load(tmp_path).root == tmp_path


@given(st.text(max_size=250))
def test_a_name_is_one_safe_path_component_or_refused(name: str) -> None:
    try:
        checked_name(name, "environment")
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert os.path.basename(os.path.normpath(f"/x/{name}")) == name
        assert name.isascii()
        assert not name.startswith((".", "-"))


def test_a_name_that_no_file_system_takes_is_refused() -> None:
    assert checked_name("x" * 200, "environment")
    with pytest.raises(UsageError, match="too long"):
        checked_name("x" * 201, "environment")


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("see https://me:s3cret@example.org/channel.", "see https://example.org/channel."),
        ("git+https://TOKEN@example.org/x@v1", "git+https://example.org/x@v1"),
        ("https://u:p@ss@example.org:8080/x", "https://example.org:8080/x"),
        ("https://example.org/t/s3cret/channel", "https://example.org/channel"),
        ("git+ssh://git@example.org/x", "git+ssh://git@example.org/x"),
        ("https://example.org/x@1.0 a@b", "https://example.org/x@1.0 a@b"),
    ],
)
def test_no_error_shows_a_password(text: str, public: str) -> None:
    assert without_credentials(text) == public
    assert str(TrainenvError("failed", cause=text)) == str(TrainenvError("failed", cause=public))

"""uv and its builds leave nothing in the folder for temporary files."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from trainenv.channels.pypi import run_uv
from trainenv.channels.scratch import scratch_folder


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_nothing_is_left_by_uv(temporary: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    code, output = run_uv(
        ["pip", "install", "--python", sys.executable, "--target", str(target), "--no-index", "."],
        cache_dir=tmp_path / "cache",
        folder=_project(tmp_path / "project"),
    )
    assert code == 0, output
    # The build has written down where its temporary files would be.
    assert Path((target / "built.py").read_text().split("'")[1]).parent == temporary
    assert list(temporary.iterdir()) == []


def _project(folder: Path) -> Path:
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "built"\nversion = "1.0"\n'
    )
    (folder / "backend.py").write_text(
        "import tempfile, zipfile\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        "    name = 'built-1.0-py3-none-any.whl'\n"
        "    info = 'built-1.0.dist-info'\n"
        "    with zipfile.ZipFile(f'{folder}/{name}', 'w') as wheel:\n"
        "        wheel.writestr('built.py', f'PLACE = {tempfile.gettempdir()!r}\\n')\n"
        "        wheel.writestr(f'{info}/METADATA', 'Metadata-Version: 2.1\\nName: built\\nVersion: 1.0\\n')\n"
        "        wheel.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n"
        "        wheel.writestr(f'{info}/RECORD', 'built.py,,\\n')\n"
        "    return name\n"
    )
    return folder


def test_runs_share_the_folder_and_the_last_one_removes_it(temporary: Path) -> None:
    with scratch_folder() as (first, _):
        with scratch_folder() as (second, _):
            assert second == first
            (second / "uv-1.lock").touch()
        assert (first / "uv-1.lock").exists()
    assert list(temporary.iterdir()) == []


def test_what_a_killed_run_left_goes_with_the_next_one(temporary: Path) -> None:
    pid = os.fork()
    if pid == 0:
        with scratch_folder() as (folder, _):
            (folder / "left").touch()
            os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert list(temporary.glob("*/left"))
    with scratch_folder():
        pass
    assert list(temporary.iterdir()) == []


def test_a_folder_that_others_may_change_is_not_used(temporary: Path) -> None:
    taken = temporary / f"trainenv-{os.geteuid()}"
    taken.mkdir()
    taken.chmod(0o777)
    with scratch_folder() as (folder, _):
        assert folder != taken
        assert folder.stat().st_mode & 0o077 == 0
    assert list(temporary.iterdir()) == [taken]
    taken.rmdir()
    taken.symlink_to(temporary.parent)
    with scratch_folder() as (folder, _):
        assert folder.parent == temporary
        assert folder != taken

"""What every test stands on: a home of its own, and workspaces that share one warm cache."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hypothesis
import pytest

from tests import support
from trainenv import Workspace
from trainenv.channels.pypi import pip_settings

_HOME = Path("~").expanduser()

# How long an example takes tells how busy the machine is, and no fault.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

# A shell lets what it starts in the background ignore these, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder; the user's settings of pip and his pyenv stay in reach."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CONFIG_HOME", os.environ.get("XDG_CONFIG_HOME", str(_HOME / ".config")))
    if (_HOME / ".pyenv").is_dir():
        monkeypatch.setenv("PYENV_ROOT", os.environ.get("PYENV_ROOT", str(_HOME / ".pyenv")))
    monkeypatch.setenv("HOME", str(home))
    for name in [name for name in os.environ if name.startswith(("TRAINENV_", "CONDA_"))]:
        monkeypatch.delenv(name)
    pip_settings.cache_clear()
    return home


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that all tests of one run share, over all worker processes."""
    base = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent
    cache = base / "shared-cache"
    cache.mkdir(exist_ok=True)
    return cache


MakeWorkspace = Callable[..., Workspace]


@pytest.fixture
def make_workspace(tmp_path: Path, shared_cache: Path) -> MakeWorkspace:
    """Makes a workspace in a new folder, with the ``host`` channel unless ``settings`` say otherwise."""

    def make(folder: str = "workspace", settings: str = 'channels = ["host"]') -> Workspace:
        root = tmp_path / folder
        root.mkdir(parents=True)
        (root / "trainenv.toml").write_text(f'cache_dir = "{shared_cache}"\n{settings}\n')
        return Workspace(root)

    return make


@pytest.fixture
def workspace(make_workspace: MakeWorkspace) -> Workspace:
    """An empty workspace on the ``host`` channel."""
    return make_workspace()


RunCommand = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def trainenv() -> RunCommand:
    """Runs the real ``trainenv`` program to its end."""

    def run(place: Workspace | None, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        command = program(place, *arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, **options)  # type: ignore[call-overload, no-any-return]

    return run


def program(place: Workspace | None, *arguments: str) -> list[str]:
    """The command line that runs ``trainenv ARGUMENTS`` in workspace ``place``."""
    own: Sequence[str] = ["--workspace", str(place.settings.root)] if place else []
    return [sys.executable, "-m", "trainenv", *own, *arguments]


def python_here() -> str:
    """A Python version that the ``host`` channel has for sure: the one that runs the tests."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small wheels that pip's settings name as the only source of PyPI packages."""
    folder = tmp_path / "wheels"
    support.make_wheel(
        folder,
        "greeter",
        files={"greeter/__init__.py": "def main():\n    import sys\n    print('hello from', sys.prefix)\n"},
        scripts={"greet": "greeter:main"},
    )
    support.make_wheel(folder, "needs_greeter", requires=["greeter<2"])
    support.make_wheel(folder, "greeter", "2.0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    pip_settings.cache_clear()
    return folder

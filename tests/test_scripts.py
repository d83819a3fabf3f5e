"""script/setup on machines of all kinds, with a small project that needs no index."""

from __future__ import annotations

import ensurepip
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import served

SCRIPTS = Path(__file__).parents[1] / "script"

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "small"
version = "1.0"

[project.optional-dependencies]
dev = []
"""

BACKEND = '''\
"""Builds the project ``small`` with its program ``hello``; does badly what the file ``behave`` says."""

import os, time, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    behaviour = open("behave").read() if os.path.exists("behave") else ""
    if behaviour == "fail":
        raise SystemExit("the small project does not want to be built")
    if behaviour == "hang":
        open("building", "w").close()
        time.sleep(300)
    name = "small-1.0-py3-none-any.whl"
    info = "small-1.0.dist-info"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("small.py", "import sys\\ndef hello(): print('hello from', sys.prefix)\\n")
        metadata = ["Metadata-Version: 2.1", "Name: small", "Version: 1.0", "Provides-Extra: dev", ""]
        wheel.writestr(f"{info}/METADATA", "\\n".join(metadata))
        kind = ["Wheel-Version: 1.0", "Generator: small", "Root-Is-Purelib: true", "Tag: py3-none-any", ""]
        wheel.writestr(f"{info}/WHEEL", "\\n".join(kind))
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\\nhello = small:hello\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
'''

NO_ENSUREPIP = "import sys; sys.modules['ensurepip'] = None\n"
"""The content of a ``.pth`` file that makes an interpreter as Debian has it without ``python3-venv``."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout of the small project, in a folder with a blank in its name."""
    folder = tmp_path / "my work"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "script").mkdir()
    for name in ("setup", "bootstrap.py", "find_pip.py"):
        shutil.copy(SCRIPTS / name, folder / "script" / name)
    return folder


def variables(**more: str) -> dict[str, str]:
    """This process's variables with pip's settings set aside."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_") and name != "PYTHONPATH"}
    return kept | {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PYTHON": sys.executable} | more


def set_up(project: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [project / "script" / "setup", *arguments],
        cwd="/",
        env=variables(**more),
        capture_output=True,
        text=True,
        check=False,
    )


def hello(project: Path) -> str:
    """What the installed program says; its first line names the place where it was installed."""
    return subprocess.run([project / ".venv" / "bin" / "hello"], capture_output=True, text=True, check=True).stdout


def test_sets_up_once_and_again_only_when_something_changed(project: Path) -> None:
    first = set_up(project)
    assert first.returncode == 0, first.stderr
    assert first.stderr.splitlines()[-1].startswith("✓ set up .venv with Python")
    assert hello(project) == f"hello from {project / '.venv'}\n"

    assert set_up(project).stderr == ""

    made = (project / ".venv" / "bin" / "activate").stat().st_mtime_ns
    (project / "pyproject.toml").write_text(PYPROJECT + "# more\n")
    assert "✓ set up" in set_up(project).stderr
    assert (project / ".venv" / "bin" / "activate").stat().st_mtime_ns == made, "it needs no new .venv"
    assert set_up(project).stderr == ""


def test_what_developers_need_contains_what_users_need(project: Path) -> None:
    assert set_up(project, "dev").returncode == 0
    assert set_up(project).stderr == ""


def test_a_moved_checkout_gets_an_environment_of_its_own(project: Path) -> None:
    assert set_up(project).returncode == 0
    moved = project.rename(project.with_name("moved"))
    done = set_up(moved)
    assert done.returncode == 0, done.stderr
    assert hello(moved) == f"hello from {moved / '.venv'}\n"


def test_an_interrupted_set_up_is_begun_afresh(project: Path) -> None:
    (project / "behave").write_text("hang")
    running = subprocess.Popen(
        [project / "script" / "setup"], env=variables(), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (project / "building").exists():
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    leftover = project / ".venv" / "half-written"
    leftover.touch()
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.splitlines()[-1] == "script/setup: interrupted; the next run begins afresh"

    (project / "behave").unlink()
    assert set_up(project).returncode == 0
    assert not leftover.exists()
    assert hello(project).startswith("hello")


def test_two_set_ups_at_once_take_turns(project: Path) -> None:
    running = [
        subprocess.Popen([project / "script" / "setup"], env=variables(), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    assert sorted(map(bool, errors)) == [False, True], "the second has nothing left to do"
    assert hello(project).startswith("hello")


def test_a_failing_pip_says_why_and_the_next_run_tries_again(project: Path) -> None:
    (project / "behave").write_text("fail")
    failed = set_up(project)
    assert failed.returncode == 1
    assert "the small project does not want to be built" in failed.stderr
    assert failed.stderr.splitlines()[-1] == "script/setup: pip failed"
    (project / "behave").unlink()
    assert set_up(project).returncode == 0


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A PATH with what a shell script needs and no Python, pip, uv or package manager."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in ("dirname", "cat", "cksum"):
        found = shutil.which(program)
        assert found
        (folder / program).symlink_to(found)
    return str(folder)


def test_no_python_is_told_in_one_line(project: Path, bare_path: str) -> None:
    refused = set_up(project, PATH=bare_path, PYTHON="")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert "no Python 3.10 or newer on PATH" in line
    assert not (project / ".venv").exists()


def test_a_python_that_is_named_and_will_not_do_is_told_by_name(project: Path) -> None:
    refused = set_up(project, PYTHON="/bin/false")
    assert refused.returncode == 1
    assert refused.stderr == "script/setup: PYTHON=/bin/false is no Python of 3.10 or newer\n"


@pytest.fixture
def without_pip(project: Path) -> Path:
    """The interpreter of a ``.venv`` that has neither pip nor ensurepip."""
    venv = project / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python3*/site-packages")
    (site / "no-ensurepip.pth").write_text(NO_ENSUREPIP)
    return venv / "bin" / "python"


def bootstrap(interpreter: Path, bare_path: str, code: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` beside bootstrap.py where neither PATH nor the distribution's wheels give pip."""
    code = f"import sys, bootstrap, find_pip\nfind_pip.DISTRIBUTION_WHEELS = '/nowhere'\n{code}"
    project = interpreter.parents[2]
    return subprocess.run(
        [interpreter, "-c", code],
        cwd=project,
        env=variables(PATH=bare_path, PYTHONPATH=str(project / "script"), **more),
        capture_output=True,
        text=True,
        check=False,
    )


SET_UP = "sys.exit(bootstrap.main('plain', 'stamp'))"
FIND = "import tempfile; print(find_pip.find_pip(sys.executable, tempfile.mkdtemp()))"


def test_where_nothing_gives_pip_one_line_says_what_to_do(without_pip: Path, bare_path: str) -> None:
    refused = bootstrap(without_pip, bare_path, SET_UP)
    assert refused.returncode == 1
    progress, line = refused.stderr.splitlines()
    assert progress.startswith("set up .venv")
    assert "nothing on this machine gives pip" in line
    assert "PIP_INDEX_URL" in line


@pytest.fixture(scope="session")
def pip_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real wheel of pip."""
    for folder in (Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels")):
        for wheel in folder.glob("pip-*.whl"):
            return wheel
    folder = tmp_path_factory.mktemp("pip")
    sys.path.insert(0, str(SCRIPTS))
    try:
        from find_pip import find_pip  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(SCRIPTS))
    pip = find_pip(sys.executable, str(folder))
    subprocess.run([*pip, "download", "--quiet", "--no-deps", "--dest", folder, "pip"], check=True)
    return next(folder.glob("pip-*.whl"))


def test_pip_comes_from_a_folder_that_its_settings_name(
    without_pip: Path, bare_path: str, pip_wheel: Path, tmp_path: Path
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    shutil.copy(pip_wheel, links)
    (links / "pip-1.0-py3-none-any.whl").write_bytes(b"an older one, not to be taken")
    done = bootstrap(without_pip, bare_path, SET_UP, PIP_FIND_LINKS=str(links))
    assert done.returncode == 0, done.stderr
    assert hello(without_pip.parents[2]).startswith("hello")


def test_pip_comes_from_an_index_that_its_settings_name(
    without_pip: Path, bare_path: str, pip_wheel: Path, tmp_path: Path
) -> None:
    simple = tmp_path / "simple" / "pip"
    simple.mkdir(parents=True)
    shutil.copy(pip_wheel, simple)
    settings = tmp_path / "pip.conf"
    with served(tmp_path) as url:
        settings.write_text(f"[global]\nindex-url = {url}/simple/\n")
        found = bootstrap(without_pip, bare_path, FIND, PIP_CONFIG_FILE=str(settings))
    assert f"{pip_wheel.name}/pip" in found.stdout, found.stderr


@pytest.mark.parametrize(
    "index", ["http://127.0.0.1:9/simple", "http://user:word@127.0.0.1:9/x", "nonsense", "file:///"]
)
def test_an_index_that_does_not_answer_is_passed_over(without_pip: Path, bare_path: str, index: str) -> None:
    found = bootstrap(without_pip, bare_path, FIND, PIP_INDEX_URL=index)
    assert (found.returncode, found.stdout) == (0, "None\n"), found.stderr

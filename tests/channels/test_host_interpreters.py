"""Interpreters are found where they are, each once, and strange ones are named with a reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from trainenv.channels.host import Interpreter, find_interpreters, probing

HEALTHY: dict[str, Any] = {
    "version": "3.11.7",
    "implementation": "cpython",
    "executable": "",
    "multiarch": "x86_64-linux-gnu",
    "platlibdir": "lib",
    "system": "linux-x86_64-64",
    "musl": False,
    "debug": False,
    "free_threaded": False,
    "frozen_site": False,
}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose only interpreters are the running one and what a test puts in ``bin``."""
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    for name in ("PYENV_ROOT", "UV_PYTHON_INSTALL_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{home / 'bin'}")
    return home


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def answering(prefix: Path, **said: Any) -> Path:
    """A program that answers as an interpreter with these properties does."""
    answer = {**HEALTHY, "prefix": str(prefix), **said}
    short = ".".join(answer["version"].split(".")[:2])
    answer.setdefault("stdlib", f"{prefix}/lib/python{short}")
    answer.setdefault("include", f"{prefix}/include/python{short}")
    stdlib = Path(answer["stdlib"])
    stdlib.mkdir(parents=True, exist_ok=True)
    (stdlib / "site.py").write_text("def getsitepackages(): ...\n")
    return script(prefix / "bin" / f"python{short}", f"echo '{json.dumps(answer)}'")


def others(cache: Path) -> dict[str, Interpreter]:
    """What was found besides the running interpreter, by file name."""
    return {one.executable.name: one for one in find_interpreters(cache) if one.source != "running"}


def test_the_running_interpreter_is_first_found_and_usable(machine: Path, tmp_path: Path) -> None:
    (found,) = find_interpreters(tmp_path)
    assert found.source == "running"
    assert found.version == ".".join(map(str, sys.version_info[:3]))
    assert found.prefix == Path(sys.base_prefix)
    assert found.unusable is None


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"version": "2.7.18", "implementation": "python2"}, "older than Python 3.8"),
        ({"version": "3.7.16"}, "older than Python 3.8"),
        ({"implementation": "pypy"}, "not CPython but pypy"),
        ({"debug": True}, "debug build"),
        ({"free_threaded": True}, "free-threaded"),
        ({"musl": True}, "musl"),
        ({"system": "linux-i686-32"}, "platform"),
        ({"platlibdir": "lib64"}, "not in lib/python3.11"),
    ],
)
def test_what_cannot_be_packaged_is_listed_with_the_reason(
    machine: Path, tmp_path: Path, said: dict[str, Any], reason: str
) -> None:
    program = answering(machine / ".pyenv" / "versions" / "one", **said)
    program.with_name("python3").symlink_to(program.name)
    (found,) = others(tmp_path).values()
    assert found.source == "pyenv"
    assert found.version == said.get("version", "3.11.7")
    assert found.unusable is not None
    assert reason in found.unusable


def test_an_interpreter_of_conda_is_not_packaged(machine: Path, tmp_path: Path) -> None:
    answering(machine / ".pyenv/versions/mini").with_name("python3").symlink_to("python3.11")
    (machine / ".pyenv/versions/mini/conda-meta").mkdir()
    assert "conda environment" in str(others(tmp_path)["python3.11"].unusable)


def test_strange_programs_never_raise(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "PROBE_SECONDS", 2.0)
    folder = machine / "bin"
    script(folder / "python3.8", "/bin/sleep 300 & wait")
    script(folder / "python3.9", "kill -SEGV $$")
    script(folder / "python3.10", "echo out of order >&2; exit 3")
    script(folder / "python3.12", "echo hello")
    (folder / "python3.13").symlink_to(folder / "gone")
    (folder / "python3.14").write_bytes(b"\x7fELF nonsense")
    (folder / "python3.14").chmod(0o755)
    (folder / "python3.15").write_text("not executable")
    (folder / "python3").symlink_to("python")
    (folder / "python").symlink_to("python3")
    begun = time.monotonic()
    found = others(tmp_path)
    assert time.monotonic() - begun < 60
    reasons = {name: str(one.unusable) for name, one in found.items()}
    assert "no answer within" in reasons["python3.8"]
    assert "signal 11" in reasons["python3.9"]
    assert "exit code 3 (out of order)" in reasons["python3.10"]
    assert "does not answer as a Python" in reasons["python3.12"]
    assert "link to a file that is not there" in reasons["python3.13"]
    assert "can't be started" in reasons["python3.14"]
    assert "can't be started" in reasons["python3.15"]
    assert "link to a file that is not there" in reasons["python"]


def test_each_is_found_once_whatever_leads_to_it(machine: Path, tmp_path: Path) -> None:
    """A venv, a copy in a venv, a link, a wrapper script and pyenv's shims all mean one interpreter."""
    running = os.path.realpath(sys.executable)
    subprocess.run([running, "-m", "venv", "--without-pip", "--copies", tmp_path / "venv"], check=True)
    (machine / "bin/python3").symlink_to(tmp_path / "venv/bin/python")
    (machine / "bin/python3.9").symlink_to(running)
    script(machine / "bin/python", f'exec "{running}" "$@"')
    script(machine / ".pyenv/shims/python3", "echo asked the shim; exit 1")
    os.environ["PATH"] += f":{machine / '.pyenv/shims'}"
    assert [one.source for one in find_interpreters(tmp_path)] == ["running"]


def test_uv_and_pyenv_folders_are_searched_and_the_newest_is_first(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    for place, version in (
        (tmp_path / "pyenv/versions/3.98.1", "3.98.1"),
        (machine / ".local/share/uv/python/cpython-3.98.2-linux-x86_64-gnu", "3.98.2"),
        (machine / ".pyenv/versions/3.97.0", "3.97.0"),
        (machine / ".pyenv/versions/3.99", "3.99.0rc1"),
    ):
        program = answering(place, version=version)
        program.with_name("python3").symlink_to(program.name)
    found = find_interpreters(tmp_path)
    assert [one.version for one in found if one.source != "running"] == ["3.98.2", "3.98.1", "3.97.0", "3.99.0rc1"]
    assert found[0].source == "uv"


def test_of_one_version_an_unpatched_one_comes_first(machine: Path, tmp_path: Path) -> None:
    for place in ("a", "b"):
        program = answering(machine / ".pyenv/versions" / place, version="3.98.0")
        program.with_name("python3").symlink_to(program.name)
    site = machine / ".pyenv/versions/a/lib/python3.98/site.py"
    site.write_text("libdirs = ['dist-packages']\n")
    patched = [one.layout.debian for one in find_interpreters(tmp_path) if one.layout and one.source == "pyenv"]
    assert patched == [False, True]


def test_an_interpreter_is_asked_once_until_it_changes(machine: Path, tmp_path: Path) -> None:
    log = tmp_path / "asked"
    program = answering(machine / ".pyenv/versions/one")
    program.with_name("python3").symlink_to(program.name)
    program.write_text(program.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\necho asked >> {log}\n"))
    first = find_interpreters(tmp_path)
    assert find_interpreters(tmp_path) == first
    assert log.read_text() == "asked\n"
    changed = program.stat().st_mtime_ns + 1_000_000
    os.utime(program, ns=(changed, changed))
    assert find_interpreters(tmp_path) == first
    assert log.read_text() == "asked\nasked\n"


def test_a_damaged_memory_is_not_believed(machine: Path, tmp_path: Path) -> None:
    expected = find_interpreters(tmp_path)
    for text in ("", "[]", '{"format": 1, "interpreters": {"x": 1}}', '{"format": 0}'):
        (tmp_path / "interpreters.json").write_text(text)
        assert find_interpreters(tmp_path) == expected

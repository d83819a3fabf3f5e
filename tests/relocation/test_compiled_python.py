"""Compiled Python files stay loadable, with the right file names in their tracebacks."""

from __future__ import annotations

import importlib.util
import json
import marshal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.relocation.conftest import interpreters
from trainenv.relocation import PLACEHOLDER, Occurrences, find, rewrite, with_source_size
from trainenv.relocation.search import holds

OLD = "/opt/envs/a"
SOURCE = '''
"""About /opt/envs/a: quiz /opt/envs/a/etc and /opt/envs/ab."""
HERE = "/opt/envs/a"
PATHS = ("/opt/envs/a/lib:/opt/envs/a/lib64", b"bytes /opt/envs/a.", "/opt/envs/a/é")
NUMBERS = (1, 2**80, -1.5, 2j, None, True, ..., frozenset({"/opt/envs/a/x", 1}))
LONG = "%s"


class Some:
    attribute: "int" = 3

    def method(self, a, /, b, *, c="/opt/envs/a/c"):
        return [x for x in (a, b, c) if x in {"p", "q"}]


def outer(value):
    def inner():
        return value[1:2], lambda: value, "/opt/envs/a/inner"

    return inner
''' % ("/opt/envs/a/" + "y" * 200)
DESCRIBE = """
import json, marshal, sys
def texts(value):
    if isinstance(value, str): yield value
    elif isinstance(value, bytes): yield value.decode("latin-1")
    elif isinstance(value, (tuple, frozenset)):
        for item in sorted(value, key=repr): yield from texts(item)
    elif hasattr(value, "co_code"):
        yield "file " + value.co_filename
        yield "code " + value.co_name + str(value.co_firstlineno)
        yield from texts(value.co_consts)
    else: yield repr(value)
code = marshal.loads(open(sys.argv[1], "rb").read()[16:])
exec(code, {"__name__": "tried"})
print(json.dumps(list(texts(code))))
"""
COMPILE = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2], dfile=sys.argv[3], doraise=True)"
INTERPRETERS = interpreters()


def compiled(tmp_path: Path, interpreter: str, source: str = SOURCE, name: str = "lib/m.py") -> bytes:
    (tmp_path / "m.py").write_text(source)
    command: list[str | Path] = [interpreter, "-c", COMPILE, tmp_path / "m.py", tmp_path / "m.pyc", f"{OLD}/{name}"]
    subprocess.run(command, check=True)
    return (tmp_path / "m.pyc").read_bytes()


def described(tmp_path: Path, interpreter: str, pyc: bytes) -> list[str]:
    """Every string in the code of ``pyc``, as that interpreter loads it, after running it."""
    (tmp_path / "described.pyc").write_bytes(pyc)
    command: list[str | Path] = [interpreter, "-c", DESCRIBE, tmp_path / "described.pyc"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    texts = json.loads(done.stdout)
    assert isinstance(texts, list)
    return texts


@pytest.mark.parametrize("interpreter", INTERPRETERS)
@pytest.mark.parametrize("new", ["/x", PLACEHOLDER, "/srv/" + "n" * 100, "/srv/" + "n" * 300, "/srv/ü env"])
def test_every_string_moves(tmp_path: Path, interpreter: str, new: str) -> None:
    pyc = compiled(tmp_path, interpreter)
    occurrences = find(pyc, OLD, "lib/m.pyc")
    assert occurrences is not None
    assert occurrences.kind == "pyc"
    moved, record = rewrite(pyc, occurrences, OLD, new, "lib/m.pyc")
    before = described(tmp_path, interpreter, pyc)
    sibling = "/opt/envs/ab"
    expected = [text.replace(sibling, "\0").replace(OLD, new).replace("\0", sibling) for text in before]
    expected = [text if text[0] != "b" else text.encode().decode("latin-1") for text in expected]
    assert sorted(described(tmp_path, interpreter, moved)) == sorted(expected)
    assert f"file {new}/lib/m.py" in expected
    assert rewrite(moved, record, new, OLD, "lib/m.pyc") == (pyc, occurrences)
    assert find(moved, new, "lib/m.pyc") == record
    assert not holds(moved, OLD, "lib/m.pyc")


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_a_plain_file_is_what_the_interpreter_itself_would_compile(tmp_path: Path, interpreter: str) -> None:
    source = "def f():\n    return 1\n"
    pyc = compiled(tmp_path, interpreter, source)
    occurrences = find(pyc, OLD, "lib/m.pyc")
    assert occurrences is not None
    for new in ("/srv/b", "/srv/" + "n" * 300):
        moved, _ = rewrite(pyc, occurrences, OLD, new, "lib/m.pyc")
        command: list[str | Path] = [
            interpreter,
            "-c",
            COMPILE,
            tmp_path / "m.py",
            tmp_path / "n.pyc",
            f"{new}/lib/m.py",
        ]
        subprocess.run(command, check=True)
        assert moved == (tmp_path / "n.pyc").read_bytes()


@pytest.mark.parametrize("length", range(30, 60))
def test_a_length_byte_is_never_taken_for_a_part_of_the_path(tmp_path: Path, length: int) -> None:
    name = "n" * (length - len(OLD) - 4) + ".py"
    pyc = compiled(tmp_path, sys.executable, "x = '/opt/envs/a'\ny = 1\n", name)
    occurrences = find(pyc, OLD, "lib/m.pyc")
    assert occurrences is not None
    assert len(occurrences.offsets) == 2


@given(st.data())
def test_damaged_files_are_left_alone_or_come_back(data: st.DataObject) -> None:
    code = compile(SOURCE, f"{OLD}/m.py", "exec")
    pyc = bytearray(importlib.util.MAGIC_NUMBER + b"\0" * 12 + marshal.dumps(code))
    for _ in range(data.draw(st.integers(0, 3))):
        pyc[data.draw(st.integers(16, len(pyc) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(pyc[: data.draw(st.integers(17, len(pyc)))])
    occurrences = find(damaged, OLD, "m.pyc")
    if occurrences is not None:
        moved, record = rewrite(damaged, occurrences, OLD, "/srv/other", "m.pyc")
        assert rewrite(moved, record, "/srv/other", OLD, "m.pyc") == (damaged, occurrences)


@pytest.mark.parametrize("magic", [b"\x03\xf3\r\n", b"\x42\x0d\r\n", b"none"])
def test_files_of_unknown_pythons_are_left_alone(magic: bytes) -> None:
    pyc = magic + b"\0" * 12 + b"\xfa\x0f/opt/envs/a/m.pyN"
    assert find(pyc, OLD, "m.pyc") is None
    assert holds(pyc, OLD, "m.pyc")


def test_the_recorded_size_of_the_source_follows_it() -> None:
    pyc = b"\xa7\r\r\n" + b"\0" * 4 + b"time" + (1234).to_bytes(4, "little") + b"code"
    assert with_source_size(pyc, 1234, 99) == pyc[:12] + b"\x63\0\0\0code"
    assert with_source_size(pyc, 77, 99) == pyc
    assert with_source_size(b"short", 77, 99) == b"short"


def test_the_record_survives_json(tmp_path: Path) -> None:
    occurrences = find(compiled(tmp_path, sys.executable), OLD, "lib/m.pyc")
    assert occurrences is not None
    assert Occurrences.from_json(json.loads(json.dumps(occurrences.to_json()))) == occurrences

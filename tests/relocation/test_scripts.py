"""Scripts start wherever they are: plain, under long paths, under blanks, and before any fix-up."""

from __future__ import annotations

import os
import subprocess
import sys
import zipapp
import zipfile
from pathlib import Path

import pytest

from tests.relocation.conftest import interpreters, shells
from trainenv.relocation import PLACEHOLDER, Occurrences, find, rewrite

PRINT = b'import sys\nprint(sys.argv[0], sys.argv[1:], sys.executable, sys.flags.isolated, sep="|")\n'
SHELLS = shells()
INTERPRETERS = interpreters()


def script_of(prefix: str, body: bytes = PRINT, arguments: str = "") -> bytes:
    return f"#!{prefix}/bin/python3{' ' if arguments else ''}{arguments}\n".encode() + body


def moved(data: bytes, old: str, new: str, path: str = "bin/tool", *, portable: bool = False) -> bytes:
    occurrences = find(data, old, path)
    assert occurrences is not None
    return rewrite(data, occurrences, old, new, path, portable=portable)[0]


def installed(prefix: Path, data: bytes, path: str = "bin/tool", interpreter: str = sys.executable) -> Path:
    """A prefix with an interpreter and one script."""
    script = prefix / path
    script.parent.mkdir(parents=True, exist_ok=True)
    (prefix / "bin").mkdir(exist_ok=True)
    if not (prefix / "bin/python3").is_symlink():
        (prefix / "bin/python3").symlink_to(interpreter)
    script.write_bytes(data)
    script.chmod(0o755)
    return script


def output(*command: str | Path, **more: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout).strip()


@pytest.mark.parametrize("length", [100, 127, 128, 300])
def test_a_shebang_is_plain_up_to_127_bytes(length: int) -> None:
    new = "/" + "n" * (length - len("#!/bin/python3") - 1)
    result = moved(script_of("/opt/a"), "/opt/a", new)
    first = result.split(b"\n")[0]
    if length <= 127:
        assert first == f"#!{new}/bin/python3".encode()
        assert len(first) == length
    else:
        assert first == b"#!/bin/sh"
        assert new.encode() not in result


def test_a_plain_script_runs_after_the_move(tmp_path: Path) -> None:
    script = installed(tmp_path, moved(script_of("/opt/a", arguments="-I"), "/opt/a", str(tmp_path)))
    assert script.read_bytes().startswith(b"#!" + bytes(tmp_path))
    assert output(script, "x y").split("|") == [str(script), "['x y']", f"{tmp_path}/bin/python3", "1"]


@pytest.mark.parametrize("folder", ["env", "with blank/the env", "l" * 120 + "/" + "m" * 120, "q'u\"o$te"])
@pytest.mark.parametrize("path", ["bin/tool", "tool", "share/deep er/er/tool"])
def test_a_portable_script_finds_its_interpreter(tmp_path: Path, folder: str, path: str) -> None:
    prefix = tmp_path / folder
    data = moved(script_of("/opt/a", arguments="-I"), "/opt/a", PLACEHOLDER, path, portable=True)
    script = installed(prefix, data, path)
    link = tmp_path / "elsewhere" / "link to tool"
    link.parent.mkdir()
    link.symlink_to(os.path.relpath(script, link.parent))
    expected = ["['a b', '*', '']", f"{prefix}/bin/python3", "1"]
    arguments = ["a b", "*", ""]
    search = {"PATH": f"{script.parent}:{os.environ['PATH']}"}
    assert output(script, *arguments).split("|") == [str(script), *expected]
    assert output(link, *arguments).split("|") == [str(link), *expected]
    assert output("./tool", *arguments, cwd=script.parent).split("|") == ["./tool", *expected]
    assert output("tool", *arguments, env=search).split("|") == [str(script), *expected]
    for shell in SHELLS:
        assert output(*shell, script, *arguments).split("|") == [str(script), *expected]
    assert output(sys.executable, script).split("|")[0] == str(script)


def test_without_its_interpreter_a_portable_script_fails_and_runs_nothing_else(tmp_path: Path) -> None:
    script = installed(tmp_path, moved(script_of("/opt/a"), "/opt/a", PLACEHOLDER, portable=True))
    (tmp_path / "bin/python3").unlink()
    for shell in SHELLS:
        done = subprocess.run([*shell, script], capture_output=True, text=True, check=False)
        assert done.returncode in (126, 127)
        assert done.stdout == ""


@pytest.mark.parametrize("interpreter", INTERPRETERS)
@pytest.mark.parametrize(
    "body",
    [
        b"from __future__ import annotations\nprint('fine')\n",
        b'# About.\n\n"""fine"""\nfrom __future__ import annotations\nprint(__doc__)\n',
        b"# -*- coding: latin-1 -*-\nassert '\xe9' == chr(0xe9)\nprint('fine')\n",
        b"# vim: set fileencoding=cp1252 :\nassert '\x80' == chr(0x20ac)\nprint('fine')\n",
    ],
)
def test_a_portable_script_means_the_same_to_every_python(tmp_path: Path, interpreter: str, body: bytes) -> None:
    data = moved(script_of("/opt/a", body), "/opt/a", PLACEHOLDER, portable=True)
    assert output(installed(tmp_path, data, interpreter=interpreter)) == "fine"
    again = find(data, PLACEHOLDER, "bin/tool")
    assert again is not None
    assert rewrite(data, again, PLACEHOLDER, "/opt/a", "bin/tool")[0] == script_of("/opt/a", body)


@pytest.mark.parametrize(
    "header",
    [
        "#!/bin/sh\n'''exec' '{p}/bin/python3' \"$0\" \"$@\"\n' '''\n",
        "#!/bin/sh\n'''exec' \"{p}/bin/python3\" \"$0\" \"$@\"\n' '''\n",
        "#!/bin/sh\n'''exec' {p}/bin/python3 \"$0\" \"$@\"\n' '''\n",
        "#! {p}/bin/python3\n",
    ],
)
def test_headers_of_other_installers_are_understood(header: str) -> None:
    old = "/opt/" + "x" * 130
    data = header.replace("{p}", old).encode() + b"# -*- coding: utf-8 -*-\n" + PRINT
    occurrences = find(data, old, "bin/tool")
    assert occurrences is not None
    assert occurrences.shebang == ("bin/python3", "")
    short, record = rewrite(data, occurrences, old, "/opt/b", "bin/tool")
    assert short == script_of("/opt/b", b"# -*- coding: utf-8 -*-\n" + PRINT)
    assert rewrite(short, record, "/opt/b", old, "bin/tool") == (data, occurrences)


def test_scripts_of_real_installers_move(tmp_path: Path) -> None:
    for folder in ("plain", "with blank", "l" * 120, "Anna's disk"):
        old = tmp_path / folder
        output(sys.executable, "-m", "venv", "--without-pip", old)
        python = old / "bin/python"
        wheel = tmp_path / "hello-1.0-py3-none-any.whl"
        make_wheel(wheel)
        output(sys.executable, "-m", "uv", "pip", "install", "-q", "--offline", "--python", python, wheel)
        data = (old / "bin/hello").read_bytes()
        occurrences = find(data, str(old), "bin/hello")
        assert occurrences is not None
        assert occurrences.shebang == ("bin/python", "")
        canonical, record = rewrite(data, occurrences, str(old), PLACEHOLDER, "bin/hello", portable=True)
        assert record.offsets == ()
        new = tmp_path / "moved" / folder
        new.parent.mkdir(exist_ok=True)
        old.rename(new)
        (new / "bin/hello").write_bytes(canonical)
        assert output(new / "bin/hello") == "hello from a console script"
        there, _ = rewrite(canonical, record, PLACEHOLDER, str(new), "bin/hello")
        (new / "bin/hello").write_bytes(there)
        assert output(new / "bin/hello") == "hello from a console script"


def make_wheel(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.py", "def main():\n    print('hello from a console script')\n")
        archive.writestr("hello-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n")
        archive.writestr("hello-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("hello-1.0.dist-info/entry_points.txt", "[console_scripts]\nhello = hello:main\n")
        archive.writestr("hello-1.0.dist-info/RECORD", "")


def test_a_program_zipped_behind_its_shebang_still_runs(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "__main__.py").write_text("print('zipped')  # /opt/a/lib\n")
    packed = tmp_path / "app.pyz"
    zipapp.create_archive(source, packed, interpreter="/opt/a/bin/python3")
    data = packed.read_bytes()
    for new, portable in ((str(tmp_path), False), (PLACEHOLDER, True)):
        assert output(installed(tmp_path, moved(data, "/opt/a", new, portable=portable))) == "zipped"


def test_what_is_no_python_script_stays_ordinary_text() -> None:
    perl = b"#!/opt/a/bin/perl -w\nprint 1\n"
    assert moved(perl, "/opt/a", "/opt/bb", portable=True) == b"#!/opt/bb/bin/perl -w\nprint 1\n"
    env = b"#!/usr/bin/env python3\nprint(1)\n"
    assert find(env, "/opt/a", "bin/tool") is None


def test_an_imported_module_keeps_its_lines() -> None:
    path = "lib/python3.11/site-packages/pkg/module.py"
    result = moved(script_of("/opt/a"), "/opt/a", PLACEHOLDER, path, portable=True)
    assert result == script_of(PLACEHOLDER)


def test_a_self_locating_script_that_someone_put_elsewhere_is_left_alone() -> None:
    data = moved(script_of("/opt/a"), "/opt/a", PLACEHOLDER, portable=True)
    assert find(data, "/opt/a", "share/deep/tool") is None
    assert isinstance(find(data, "/opt/a", "sbin/tool"), Occurrences)

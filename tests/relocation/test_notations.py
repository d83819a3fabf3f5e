"""Whatever notation a file is written in: after a move it says the new prefix, to the program that reads it."""

from __future__ import annotations

import ast
import html
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trainenv.relocation import PLACEHOLDER, SPELLINGS, find, rewrite, spelled
from trainenv.relocation.search import holds

AWKWARD = "/srv/modèles 'of' \"us\"\\ & <b>; 100%#$(x)/😀"
names = st.text("abz09_.+- éß中😀%&'\"\\$#;<>()[]{}!~^|`*?,=@\u200d", min_size=1, max_size=12)
prefixes = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))


def _url(text: bytes) -> str:
    return unquote(text.decode()).removeprefix("file://")


def _xml(data: bytes) -> str:
    return ET.fromstring(data).text or ""


WRITERS: dict[str, tuple[str, Callable[[str], str], Callable[[bytes], str]]] = {
    "JSON of Python": ("kernel.json", lambda p: json.dumps({"argv": p}), lambda d: str(json.loads(d)["argv"])),
    "JSON of others": (
        *("conda-meta/a.json", lambda p: json.dumps({"argv": p}, ensure_ascii=False)),
        lambda d: str(json.loads(d)["argv"]),
    ),
    "JSON in capitals": (
        *("a.json", lambda p: re.sub(r"\\(u....|.)", lambda m: m[0][:2] + m[0][2:].upper(), json.dumps({"argv": p}))),
        lambda d: str(json.loads(d)["argv"]),
    ),
    "JSON with escaped slashes": (
        *("a.json", lambda p: json.dumps({"argv": p}).replace("/", "\\/")),
        lambda d: str(json.loads(d)["argv"]),
    ),
    "URL of pip in JSON": (
        *("direct_url.json", lambda p: json.dumps({"url": "file://" + quote(p)})),
        lambda d: _url(json.loads(d)["url"].encode()),
    ),
    "URL of uv": ("a.txt", lambda p: "file://" + quote(p, safe="/!$&'()*+,;=:@~^|[]"), _url),
    "repr of Python": ("lib/x.py", repr, lambda d: str(ast.literal_eval(d.decode()))),
    "Python in double quotes": (
        *("bin/tool", lambda p: f"#!/usr/bin/python3\n# it's\nx = {json.dumps(p, ensure_ascii=False)}\n"),
        lambda d: str(ast.literal_eval(d.decode().splitlines()[-1][4:])),
    ),
    "a word of a shell script": ("bin/x.sh", lambda p: f"x={shlex.quote(p)}", lambda d: shlex.split(d.decode())[0][2:]),
    "shell in double quotes": (
        *("bin/x.sh", lambda p: 'x="{}"'.format("".join("\\" + c if c in '"\\$`' else c for c in p))),
        lambda d: shlex.split(d.decode().replace("\\$", "$").replace("\\`", "`"))[0][2:],
    ),
    "XML": ("etc/fonts.conf", lambda p: f"<?xml version='1.0'?><dir>{html.escape(p)}</dir>", _xml),
}


@pytest.mark.parametrize("kind", WRITERS)
@given(old=prefixes, new=prefixes)
def test_what_a_program_wrote_says_the_new_prefix_and_comes_back(kind: str, old: str, new: str) -> None:
    path, write, read = WRITERS[kind]
    assume("\u200d" not in old or kind != "repr of Python")
    text = write(old + "/x").encode()
    occurrences = find(text, old, path)
    assert occurrences is not None
    assert holds(text, old, path)
    moved, record = rewrite(text, occurrences, old, new, path)
    assert read(moved) == new + "/x"
    assert rewrite(moved, record, new, old, path) == (text, occurrences)
    canonical, there = rewrite(text, occurrences, old, PLACEHOLDER, path, portable=True)
    assert rewrite(moved, record, new, PLACEHOLDER, path, portable=True) == (canonical, there)


@pytest.mark.parametrize("old", ["/srv/modèles/chat", "/模/型", "/a b/it's", '/a"b', "/a\\b", "/😀"])
@pytest.mark.parametrize("path", ["kernel.json", "notes.txt", "lib/x.so", "lib/x.pyc"])
def test_escaped_prefixes_are_found_in_every_file(old: str, path: str) -> None:
    text = b"x \0" * path.endswith(".so") + json.dumps(old + "/x").encode()
    assert holds(text, old, path)
    assert not holds(text.replace(b"/x", b"\\u00e9/x"), old, path)
    assert not holds(text.replace(b'"/', b'"/mnt\\u00e9/', 1), old, path)


def test_the_spellings_are_as_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/internals/relocation.md").read_text(encoding="utf-8")
    prefix = re.search(r"makes of the prefix ``(.+)``:", text)
    assert prefix is not None
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| ``(.+)`` \|$", text, re.MULTILINE)
    assert dict(rows) == {name: spelled(prefix[1], name).decode() for name in SPELLINGS}


SHELL_SCRIPT = """#!/bin/sh
# don't look at /opt/a
bare=/opt/a/bare
single='/opt/a/single'
double="/opt/a/double"
nested="$(printf %s "/opt/a/nested")"
unquoted="$(printf %s /opt/a/unquoted)"
document=$(cat <<END
it's /opt/a/document
END
)
printf '%s\\n' "$bare" "$single" "$double" "$nested" "$unquoted" "$document"
"""


@pytest.mark.parametrize("shell", [name for name in ("sh", "bash", "zsh", "busybox") if shutil.which(name)])
@pytest.mark.parametrize("new", ["/srv/plain", AWKWARD])
def test_a_shell_script_holds_any_prefix(shell: str, new: str) -> None:
    occurrences = find(SHELL_SCRIPT.encode(), "/opt/a", "bin/tool")
    assert occurrences is not None
    script, record = rewrite(SHELL_SCRIPT.encode(), occurrences, "/opt/a", new, "bin/tool")
    assert rewrite(script, record, new, "/opt/a", "bin/tool")[0] == SHELL_SCRIPT.encode()
    with tempfile.NamedTemporaryFile(suffix=".sh") as file:
        file.write(script)
        file.flush()
        command = ["busybox", "sh"] if shell == "busybox" else [shell]
        lines = subprocess.run([*command, file.name], capture_output=True, text=True, check=True).stdout.splitlines()
    expected = [f"{new}/{name}" for name in ("bare", "single", "double", "nested", "unquoted")]
    assert lines == [*expected, f"it's {new}/document"]


def carried_to(new: str, text: bytes, path: str) -> bytes:
    """``text``, that of the file ``path``, in which ``/opt/a`` has become ``new``."""
    occurrences = find(text, "/opt/a", path)
    assert occurrences is not None
    return rewrite(text, occurrences, "/opt/a", new, path)[0]


@pytest.mark.skipif(shutil.which("pkg-config") is None, reason="needs pkg-config")
def test_pkg_config_reads_the_prefix(tmp_path: Path) -> None:
    text = b"prefix=/opt/a\nName: x\nDescription: don't\nVersion: 1\nCflags: -I${prefix}/include\n"
    new = "/srv/a 'b' & <c>"
    (tmp_path / "x.pc").write_bytes(carried_to(new, text, "lib/pkgconfig/x.pc"))
    environ = {**os.environ, "PKG_CONFIG_PATH": str(tmp_path)}
    said = subprocess.run(["pkg-config", "--cflags", "x"], capture_output=True, text=True, check=True, env=environ)
    assert shlex.split(said.stdout) == [f"-I{new}/include"]


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
def test_cmake_reads_the_prefix(tmp_path: Path) -> None:
    text = b'# it\'s\nset(bare /opt/a/x)\nset(quoted "/opt/a/y")\nmessage("${bare}\\n${quoted}")\n'
    new = "/srv/modèles 'of' \"us\"\\ & <b>; 100%#$(x)"
    script = tmp_path / "x.cmake"
    script.write_bytes(carried_to(new, text, "lib/cmake/x.cmake"))
    said = subprocess.run(["cmake", "-P", str(script)], capture_output=True, text=True, check=True)
    assert said.stderr.splitlines() == [f"{new}/x", f"{new}/y"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("bin/x.sh", 'x="' + "$(a) $(b " * 20_000),
        ("bin/x.sh", "x=1 <<END\n" * 2_000),
        ("lib/x.py", '"""' + "\\n\\'" * 20_000 + "'''"),
        ("lib/x.js", "'\\" * 20_000),
        ("lib/x.cmake", '"\\$(' * 20_000),
    ],
)
def test_what_never_ends_takes_no_long_time(path: str, text: str) -> None:
    occurrences = find(f"/opt/a/x\n{text}".encode(), "/opt/a", path)
    assert occurrences is not None
    assert len(occurrences.offsets) == 1

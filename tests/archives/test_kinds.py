"""Every kind of file that holds the prefix works where it was moved to, as the program says that reads it."""

from __future__ import annotations

import json
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.archives.conftest import extract, make_prefix, pack, unpack
from trainenv.relocation import PLACEHOLDER, leftovers

SITE = "lib/python3.1/site-packages"
BUILD = "lib/python3.1/_sysconfigdata.py"


def _add_kinds(prefix: Path) -> None:
    """One of each; the libraries as pip and conda build them: with RPATH, and with RUNPATH."""
    texts = {
        f"{SITE}/paths.pth": f"{prefix}/lib/more\nimport os\n",
        f"{SITE}/dist-1.0.dist-info/direct_url.json": json.dumps({"url": (prefix / "src/a b").as_uri()}),
        "share/jupyter/kernels/chat/kernel.json": json.dumps({"argv": [f"{prefix}/bin/python", "-m", "kernel"]}),
        "lib/pkgconfig/tool.pc": f"prefix={prefix}\nName: tool\nDescription: t\nVersion: 1\n",
        "lib/cmake/tool-config.cmake": f'set(TOOL_ROOT "{prefix}")\n',
        BUILD: f"vars = {{'prefix': {str(prefix)!r}, 'LDFLAGS': '-L{prefix}/lib -Wl,-rpath,{prefix}/lib'}}\n",
        "bin/long": f"#!{prefix}/bin/python -I\nimport sys\nprint('long', sys.argv[1])\n",
        "share/user.c": "int tool(void); int main(void) { return tool(); }\n",
        "share/tool.c": "int tool(void) { return 42; }\n",
    }
    for path, text in texts.items():
        (prefix / path).parent.mkdir(parents=True, exist_ok=True)
        (prefix / path).write_text(text)
    (prefix / "bin/long").chmod(0o755)
    (prefix / "lib/more").mkdir()
    gcc: list[str | Path] = ["gcc", "-L", prefix / "lib", f"-Wl,-rpath,{prefix}/lib"]
    subprocess.run([*gcc, "-shared", "-o", prefix / "lib/libtool.so", prefix / "share/tool.c"], check=True)
    for name, tags in (("rpath", "--disable-new-dtags"), ("runpath", "--enable-new-dtags")):
        output: list[str | Path] = ["-o", prefix / "bin" / name, prefix / "share/user.c", "-ltool", f"-Wl,{tags}"]
        subprocess.run([*gcc, *output], check=True)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Where the environment was, with a blank in its path, and its archive."""
    base = tmp_path_factory.mktemp("kinds")
    prefix = make_prefix(base / "machine a" / "chat")
    shutil.rmtree(prefix / "share")
    _add_kinds(prefix)
    archive = pack(prefix, base / "chat.tar.zst").path
    prefix.parent.rename(base / "gone")
    return prefix, archive


@pytest.fixture(scope="module", params=["unpack", "conda-unpack"])
def moved(
    request: pytest.FixtureRequest, packed: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Where it was and where it is now."""
    former, archive = packed
    target = tmp_path_factory.mktemp("a_name") / ("long " * 30) / "machine b" / "chat"
    if request.param == "unpack":
        unpack(archive, target)
    else:
        extract(archive, target)
        subprocess.run([target / "bin/conda-unpack"], check=True, stdout=subprocess.DEVNULL)
    return former, target


Moved = tuple[Path, Path]


def test_nothing_names_the_former_prefix(moved: Moved) -> None:
    former, prefix = moved
    assert leftovers(prefix, [str(former), PLACEHOLDER]) == []


@pytest.mark.parametrize("name", ["rpath", "runpath"])
def test_programs_find_their_libraries(moved: Moved, name: str) -> None:
    assert subprocess.run([moved[1] / "bin" / name], check=False).returncode == 42


def test_a_line_too_long_for_the_kernel_still_starts(moved: Moved) -> None:
    assert subprocess.check_output([moved[1] / "bin/long", "x"], text=True) == "long x\n"


def test_pth_and_sysconfig_and_bytecode_as_python_reads_them(moved: Moved) -> None:
    prefix = moved[1]
    code = f"""
import runpy, site, sys, json
site.addsitedir({str(prefix / SITE)!r})
sys.path.insert(0, {str(prefix / "lib/python3/site-packages")!r})
import pkg, pkg.plain
build = runpy.run_path({str(prefix / BUILD)!r})["vars"]
names = [pkg.plain.where(), pkg.HOME]
print(json.dumps([[path for path in sys.path if path.endswith("/more")], build, names]))
"""
    done = subprocess.run([sys.executable, "-BIc", code], capture_output=True, text=True, check=True)
    added, build, names = json.loads(done.stdout)
    assert added == [f"{prefix}/lib/more"]
    assert build == {"prefix": str(prefix), "LDFLAGS": f"-L{prefix}/lib -Wl,-rpath,{prefix}/lib"}
    assert names == [f"{prefix}/lib/python3/site-packages/pkg/plain.py", str(prefix)]


def test_bytecode_is_not_made_anew(moved: Moved) -> None:
    """Python takes it as it is: a source that can't be compiled, of the same size and time, is not looked at."""
    folder = moved[1] / "lib/python3/site-packages/pkg"
    source = folder / "plain.py"
    status = source.stat()
    original = source.read_bytes()
    with pytest.raises(py_compile.PyCompileError):
        source.write_bytes(b"(" * len(original))
        py_compile.compile(str(source), cfile=str(folder / "never.pyc"), doraise=True)
    try:
        subprocess.run(["touch", "-d", f"@{int(status.st_mtime)}", source], check=True)
        code = f"import sys; sys.path.insert(0, {str(folder.parent)!r}); import pkg.plain; print(pkg.plain.where())"
        assert subprocess.check_output([sys.executable, "-BIc", code], text=True) == f"{source}\n"
    finally:
        source.write_bytes(original)
        subprocess.run(["touch", "-d", f"@{int(status.st_mtime)}", source], check=True)


def test_pkg_config_and_cmake(moved: Moved, tmp_path: Path) -> None:
    prefix = moved[1]
    told = subprocess.check_output(
        ["pkg-config", "--variable=prefix", "tool"],
        env={"PATH": "/usr/bin", "PKG_CONFIG_PATH": f"{prefix}/lib/pkgconfig"},
    )
    assert told.decode().replace("\\ ", " ") == f"{prefix}\n"
    script = tmp_path / "show.cmake"
    script.write_text(f'include("{prefix}/lib/cmake/tool-config.cmake")\nmessage("${{TOOL_ROOT}}")\n')
    assert subprocess.run(["cmake", "-P", script], capture_output=True, text=True, check=True).stderr == f"{prefix}\n"


def test_kernels_and_the_origin_of_packages(moved: Moved) -> None:
    prefix = moved[1]
    kernel = json.loads((prefix / "share/jupyter/kernels/chat/kernel.json").read_text())
    assert kernel["argv"][0] == f"{prefix}/bin/python"
    origin = json.loads((prefix / f"{SITE}/dist-1.0.dist-info/direct_url.json").read_text())["url"]
    assert unquote(urlsplit(origin).path) == f"{prefix}/src/a b"


def test_packed_again_it_is_the_same(moved: Moved, packed: tuple[Path, Path], tmp_path: Path) -> None:
    assert pack(moved[1], tmp_path / "again.tar.zst").path.read_bytes() == packed[1].read_bytes()

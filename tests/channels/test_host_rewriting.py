"""Texts of an interpreter name the prefix they are installed into, and Debian's patches are undone."""

from __future__ import annotations

import runpy
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainenv.channels.host import debian, elf
from trainenv.channels.host.buildinfo import PLACEHOLDER, with_placeholder
from trainenv.channels.host.contents import Entry
from trainenv.errors import InterpreterError

DATA_FILE = "lib/python3.11/_sysconfigdata__linux_x86_64-linux-gnu.py"
PREFIX = "/home/someone/.pyenv/versions/3.11.7"


def rewritten(prefix: str, **files: str) -> dict[str, Entry]:
    entries = {path: Entry(path, text.encode()) for path, text in files.items()}
    return with_placeholder(entries, prefix, "x86_64-linux-gnu")


def build_variables(entry: Entry) -> dict[str, object]:
    module: dict[str, dict[str, object]] = {}
    exec(entry.data, module)
    return module["build_time_vars"]


@given(st.lists(st.sampled_from([PREFIX, PREFIX + "0", "/lib", "\n", "'", "ä", "x", "-L"])).map("".join))
def test_a_prefix_of_its_own_is_replaced_wherever_it_stands_and_comes_back(text: str) -> None:
    entry = rewritten(PREFIX, some_text=text)["some_text"]
    assert entry.data.decode().replace(PLACEHOLDER, PREFIX) == text
    assert entry.placeholder == (PLACEHOLDER in entry.data.decode())
    assert PREFIX + "/" not in entry.data.decode()


def test_binaries_and_links_stay() -> None:
    entries = {"a": Entry("a", f"\0{PREFIX}".encode()), "b": Entry("b", link="a")}
    assert with_placeholder(entries, PREFIX, "") == entries


def test_of_a_shared_prefix_only_directories_are_replaced() -> None:
    values = {
        "prefix": "/usr",
        "LIBDIR": "/usr/lib/x86_64-linux-gnu",
        "LIBPL": "/usr/lib/python3.11/config-3.11-x86_64-linux-gnu",
        "DESTDIRS": "/usr /usr/lib/x86_64-linux-gnu /usr/lib/python3.11",
        "INSTALL": "/usr/bin/install -c",
        "TZPATH": "/usr/share/zoneinfo:/usr/lib/zoneinfo",
        "Py_DEBUG": 0,
    }
    files = {
        DATA_FILE: f"# generated\nbuild_time_vars = {values!r}\n",
        "lib/python3.11/config/Makefile": "prefix=\t\t/usr\nexec_prefix=\t${prefix}\nDTRACE=\t/usr/bin/dtrace\n",
        "lib/pkgconfig/python-3.11.pc": "prefix=/usr\nCflags: -I${includedir}/x86_64-linux-gnu/python3.11\n",
        "bin/pydoc3.11": "#!/usr/bin/python3.11\n# see /usr/share/doc\n",
        "lib/python3.11/mimetypes.py": "known = ['/usr/local/etc/mime.types']\n",
    }
    done = rewritten("/usr", **files)
    variables = build_variables(done[DATA_FILE])
    assert variables["prefix"] == PLACEHOLDER
    assert variables["LIBDIR"] == f"{PLACEHOLDER}/lib"
    assert variables["LIBPL"] == f"{PLACEHOLDER}/lib/python3.11/config-3.11-x86_64-linux-gnu"
    assert variables["DESTDIRS"] == f"{PLACEHOLDER} {PLACEHOLDER}/lib {PLACEHOLDER}/lib/python3.11"
    assert {key: variables[key] for key in ("INSTALL", "TZPATH", "Py_DEBUG")} == {
        key: values[key] for key in ("INSTALL", "TZPATH", "Py_DEBUG")
    }
    texts = {path: entry.data.decode() for path, entry in done.items()}
    assert texts["lib/python3.11/config/Makefile"].splitlines() == [
        f"prefix=\t\t{PLACEHOLDER}",
        "exec_prefix=\t${prefix}",
        "DTRACE=\t/usr/bin/dtrace",
    ]
    pc = f"prefix={PLACEHOLDER}\nCflags: -I${{includedir}}/python3.11\n"
    assert texts["lib/pkgconfig/python-3.11.pc"] == pc
    assert texts["bin/pydoc3.11"] == f"#!{PLACEHOLDER}/bin/python3.11\n# see /usr/share/doc\n"
    assert texts["lib/python3.11/mimetypes.py"] == files["lib/python3.11/mimetypes.py"]


def test_the_prefix_of_a_relocated_build_is_replaced_too() -> None:
    """uv's interpreters were built for ``/install`` and lie elsewhere."""
    home = "/home/someone/.local/share/uv/python/cpython-3.11.7-linux-x86_64-gnu"
    values = {"prefix": "/install", "INCLUDEPY": "/install/include/python3.11", "INSTALL": "/usr/bin/install -c"}
    shebang = f"#!{home}/bin/python3.11\n"
    done = rewritten(home, **{DATA_FILE: f"build_time_vars = {values!r}\n", "bin/2to3-3.11": shebang})
    variables = build_variables(done[DATA_FILE])
    assert variables["prefix"] == PLACEHOLDER
    assert variables["INCLUDEPY"] == f"{PLACEHOLDER}/include/python3.11"
    assert variables["INSTALL"] == "/usr/bin/install -c"
    assert done["bin/2to3-3.11"].data.decode() == f"#!{PLACEHOLDER}/bin/python3.11\n"


def test_build_settings_of_an_unknown_form_are_refused() -> None:
    with pytest.raises(InterpreterError, match="_sysconfigdata"):
        rewritten("/usr", **{DATA_FILE: "build_time_vars = compute('/usr')\n"})


SITE = "import sys\nimport os\nPREFIXES = ['/env']\ndef getsitepackages(): return ['dist-packages']\n"
SITE_TAIL = "if not sys.flags.no_site:\n    FOUND = getsitepackages()\nif __name__ == '__main__':\n    pass\n"
SYSCONFIG = (
    "_INSTALL_SCHEMES = {'posix_prefix': {'purelib': 'site-packages'}, 'deb_system': {'purelib': 'dist-packages'}}\n"
    "def _get_preferred_schemes(): return {'prefix': 'deb_system'}\n"
    "if __name__ == '__main__':\n    PREFERRED = _get_preferred_schemes()\n"
)


def patched(**more: str) -> dict[str, Entry]:
    texts = {"site.py": SITE + SITE_TAIL, "sysconfig.py": SYSCONFIG, "encodings/__init__.py": "import codecs\n", **more}
    return {f"lib/python3.11/{name}": Entry(f"lib/python3.11/{name}", text.encode()) for name, text in texts.items()}


def run_as_program(entry: Entry, folder: Path) -> types.SimpleNamespace:
    path = folder / "module.py"
    path.write_bytes(entry.data)
    return types.SimpleNamespace(**runpy.run_path(str(path), run_name="__main__"))


@pytest.mark.parametrize("sysconfig_file", ["sysconfig.py", "sysconfig/__init__.py"])
def test_functions_are_redefined_before_the_module_uses_them(tmp_path: Path, sysconfig_file: str) -> None:
    entries = patched(**{sysconfig_file: SYSCONFIG})
    if sysconfig_file != "sysconfig.py":
        del entries["lib/python3.11/sysconfig.py"]
    done = debian.undone(entries, "3.11", False, {})
    site = run_as_program(done["lib/python3.11/site.py"], tmp_path)
    assert [path.rsplit("/", 1)[-1] for path in site.FOUND] == ["site-packages"]
    sysconfig = run_as_program(done[f"lib/python3.11/{sysconfig_file}"], tmp_path)
    assert sysconfig.PREFERRED["prefix"] == "posix_prefix"
    assert sysconfig.get_scheme_names() == ("posix_prefix",)


def test_debians_own_modules_go_and_pip_is_bundled() -> None:
    entries = patched(**{"_distutils_system_mod.py": "", "ensurepip/_uninstall.py": "", "ensurepip/__init__.py": "old"})
    done = debian.undone(entries, "3.11", True, {"pip-1-py3-none-any.whl": b"wheel"})
    names = {path.removeprefix("lib/python3.11/") for path in done}
    assert "_distutils_system_mod.py" not in names
    assert "ensurepip/_uninstall.py" not in names
    assert done["lib/python3.11/ensurepip/_bundled/pip-1-py3-none-any.whl"].data == b"wheel"
    assert b"old" not in done["lib/python3.11/ensurepip/__init__.py"].data


@pytest.mark.parametrize(
    ("missing", "message"),
    [({"site.py": SITE}, "site.py is not as expected"), ({"sysconfig.py": None}, "sysconfig.py is missing")],
)
def test_an_interpreter_without_the_expected_anchors_is_refused(missing: dict[str, str | None], message: str) -> None:
    entries = patched()
    for name, text in missing.items():
        path = f"lib/python3.11/{name}"
        del entries[path]
        if text is not None:
            entries[path] = Entry(path, text.encode())
    with pytest.raises(InterpreterError, match=message):
        debian.undone(entries, "3.11", False, {})


def test_rpaths_become_relative_to_the_file() -> None:
    import sys

    data = Path(sys.executable).resolve().read_bytes()
    libraries = set(elf.needed(data))
    assert libraries
    rpath = elf.own_rpath(data, "bin/python3.11", libraries, Path("/nowhere"))
    assert rpath is not None
    assert rpath.split(":")[0] == "$ORIGIN/../lib"
    moved = elf.with_rpath(data, rpath)
    assert elf.own_rpath(moved, "bin/python3.11", libraries, Path("/nowhere")) is None
    assert set(elf.needed(moved)) == libraries

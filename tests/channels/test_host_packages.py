"""An interpreter from the host channel behaves as an unpatched one, wherever it is installed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from trainenv.channels import pypi
from trainenv.channels.host import HostChannel, Interpreter, distributions, find_interpreters, provide
from trainenv.channels.host.buildinfo import PLACEHOLDER
from trainenv.progress import SilentReporter

Provide = Callable[[Path, Interpreter], HostChannel]
Install = Callable[[HostChannel, list[str], Path], None]

ASK = """
import json, site, sys, sysconfig
print(json.dumps({
    "prefix": sys.prefix, "base_prefix": sys.base_prefix, "version": "%d.%d.%d" % sys.version_info[:3],
    "site_packages": site.getsitepackages(), "sys_path": sys.path,
    "paths": sysconfig.get_paths(), "scheme": getattr(sysconfig, "get_default_scheme", lambda: "posix_prefix")(),
    "schemes": sysconfig.get_scheme_names(),
    "config": {key: sysconfig.get_config_var(key) for key in ("prefix", "LIBDIR", "INCLUDEPY", "LIBPL", "INSTALL")},
}))
"""


def output(*command: str | Path, cwd: Path | None = None) -> str:
    """What ``command`` prints; it must succeed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def library(prefix: Path, interpreter: Interpreter) -> Path:
    return prefix / "lib" / f"python{interpreter.short_version}"


def test_it_finds_itself_in_its_prefix(prefix: Path, interpreter: Interpreter) -> None:
    said = json.loads(output(prefix / "bin/python", "-I", "-c", ASK))
    lib = library(prefix, interpreter)
    assert said["version"] == interpreter.version
    assert said["prefix"] == said["base_prefix"] == said["config"]["prefix"] == str(prefix)
    assert said["site_packages"] == [f"{lib}/site-packages"]
    assert said["paths"]["purelib"] == said["paths"]["platlib"] == f"{lib}/site-packages"
    assert said["paths"]["scripts"] == f"{prefix}/bin"
    assert said["paths"]["data"] == str(prefix)
    assert said["paths"]["include"] == said["config"]["INCLUDEPY"] == f"{prefix}/include/{lib.name}"
    assert said["config"]["LIBDIR"] == f"{prefix}/lib"
    assert said["config"]["LIBPL"].startswith(str(lib))
    assert said["config"]["INSTALL"].startswith("/usr/bin/install")
    assert said["scheme"] == "posix_prefix"
    assert not {"deb_system", "posix_local"}.intersection(said["schemes"])
    assert all(entry.startswith(str(prefix)) for entry in said["sys_path"])
    assert not any("dist-packages" in entry for entry in said["sys_path"])


def test_it_has_its_extension_modules(prefix: Path) -> None:
    modules = "ssl, sqlite3, ctypes, lzma, bz2, zlib, readline, hashlib, decimal, _uuid, curses"
    assert "OpenSSL" in output(prefix / "bin/python", "-I", "-c", f"import {modules}; print(ssl.OPENSSL_VERSION)")


def test_no_file_names_another_place(prefix: Path, interpreter: Interpreter) -> None:
    """Texts hold neither the placeholder nor a prefix of the interpreter's own; nothing says it is managed."""
    lib = library(prefix, interpreter)
    own = str(interpreter.prefix).encode() if str(interpreter.prefix) not in ("/usr", "/usr/local") else b"\xff"
    for path in (entry for entry in prefix.rglob("*") if entry.is_file() and "conda-meta" not in entry.parts):
        data = path.read_bytes()
        assert PLACEHOLDER.encode() not in data, path
        assert b"\0" in data or own not in data, path
    assert not (lib / "EXTERNALLY-MANAGED").exists()
    assert not (lib / "test").exists()
    assert not list(prefix.rglob("*.a"))
    assert not (lib / "_distutils_system_mod.py").exists()
    assert not (lib / "sitecustomize.py").exists()


def test_scripts_start_the_interpreter_of_the_prefix(prefix: Path, interpreter: Interpreter) -> None:
    short = interpreter.short_version
    for name in ("pip", "pip3", f"pip{short}"):
        assert f"(python {short})" in output(prefix / "bin" / name, "--version")
    assert "str(object=" in output(prefix / "bin" / f"pydoc{short}", "str")
    if (prefix / f"bin/python{short}-config").exists():
        assert f"-I{prefix}/include/python{short}" in output(prefix / f"bin/python{short}-config", "--includes")


def test_pip_installs_into_site_packages_and_bin(prefix: Path, interpreter: Interpreter, tmp_path: Path) -> None:
    wheel = tmp_path / "greeting-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("greeting.py", "import sys\ndef main():\n    print('hello from', sys.prefix)\n")
        info = "greeting-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\ngreeting = greeting:main\n")
        archive.writestr(f"{info}/RECORD", "")
    output(prefix / "bin/python", "-m", "pip", "install", "--no-index", wheel)
    assert (library(prefix, interpreter) / "site-packages" / "greeting.py").is_file()
    assert output(prefix / "bin/greeting") == f"hello from {prefix}\n"
    output(prefix / "bin/python", "-m", "pip", "uninstall", "-y", "greeting")


def test_uv_installs_numpy(prefix: Path, cache_dir: Path) -> None:
    uv = ["pip", "install", "--python", str(prefix / "bin/python"), *pypi.uv_options(), "numpy"]
    code, errors = pypi.run_uv(uv, cache_dir=cache_dir)
    assert code == 0, errors
    where = output(prefix / "bin/python", "-I", "-c", "import numpy; print(int(numpy.arange(4).sum()), numpy.__file__)")
    assert where.startswith(f"6 {prefix}/lib/python")


def test_a_c_extension_installs_from_source(prefix: Path, interpreter: Interpreter, tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text(
        "from setuptools import Extension, setup\n"
        "setup(name='answer', version='1.0', ext_modules=[Extension('answer', ['answer.c'])])\n"
    )
    (tmp_path / "answer.c").write_text(
        "#include <Python.h>\n"
        'static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "answer", .m_size = -1};\n'
        "PyMODINIT_FUNC PyInit_answer(void) {\n"
        "    PyObject *made = PyModule_Create(&module);\n"
        '    PyModule_AddIntConstant(made, "value", 42);\n'
        "    return made;\n"
        "}\n"
    )
    install = ("setup.py", "-q", "install", "--single-version-externally-managed", f"--record={tmp_path}/files.txt")
    output(prefix / "bin/python", "-W", "ignore", *install, cwd=tmp_path)
    ask = "import answer; print(answer.value, answer.__file__)"
    site_packages = library(prefix, interpreter) / "site-packages"
    assert output(prefix / "bin/python", "-I", "-c", ask).startswith(f"42 {site_packages}/answer.")
    assert f"{site_packages}/answer-1.0-py{interpreter.short_version}.egg-info" in (tmp_path / "files.txt").read_text()


def test_distutils_installs_into_the_prefix(prefix: Path, interpreter: Interpreter) -> None:
    if not (library(prefix, interpreter) / "distutils" / "core.py").exists():
        assert int(interpreter.short_version.split(".")[1]) >= 12
        return
    code = (
        "from distutils.core import Distribution; import distutils.sysconfig as s;"
        "command = Distribution({'name': 'x', 'version': '1'}).get_command_obj('install');"
        "command.ensure_finalized(); egg = command.distribution.get_command_obj('install_egg_info');"
        "egg.ensure_finalized();"
        "print(command.install_purelib, command.install_scripts, s.get_python_lib(), egg.target, sep='\\n')"
    )
    shown = output(prefix / "bin/python", "-W", "ignore", "-I", "-c", code).splitlines()
    site_packages = library(prefix, interpreter) / "site-packages"
    egg = site_packages / f"x-1-py{interpreter.short_version}.egg-info"
    assert [os.path.normpath(path) for path in shown] == [
        *map(str, (site_packages, prefix / "bin", site_packages, egg))
    ]


def test_venv_works_and_has_pip(prefix: Path, interpreter: Interpreter, tmp_path: Path) -> None:
    output(prefix / "bin/python", "-m", "venv", tmp_path / "venv")
    shown = output(tmp_path / "venv/bin/pip", "--version")
    assert str(tmp_path / "venv" / "lib" / f"python{interpreter.short_version}" / "site-packages") in shown
    said = json.loads(output(tmp_path / "venv/bin/python", "-I", "-c", ASK))
    assert said["base_prefix"] == str(prefix)
    assert said["site_packages"] == [f"{tmp_path}/venv/lib/python{interpreter.short_version}/site-packages"]


def test_every_installed_file_has_its_recorded_hash(prefix: Path) -> None:
    """Files with a placeholder have a hash of their own; all others that of ``info/paths.json``."""
    checked = 0
    for record in (prefix / "conda-meta").glob("*.json"):
        for entry in json.loads(record.read_bytes())["paths_data"]["paths"]:
            path = prefix / entry["_path"]
            expected = entry.get("sha256_in_prefix") or entry.get("sha256")
            if (
                expected
                and path.is_file()
                and "site-packages" not in entry["_path"]
                and entry["path_type"] == "hardlink"
            ):
                assert hashlib.sha256(path.read_bytes()).hexdigest() == expected, path
                checked += 1
    assert checked > 500


def test_the_same_interpreter_gives_the_same_bytes(
    interpreter: Interpreter, cache_dir: Path, tmp_path: Path, provide_exactly: Provide
) -> None:
    first = provide_exactly(cache_dir, interpreter).path
    again = provide_exactly(tmp_path, interpreter).path
    for package in again.rglob("*.conda"):
        assert package.read_bytes() == (first / package.relative_to(again)).read_bytes()


def test_pip_can_be_asked_for_by_name(
    cache_dir: Path, tmp_path: Path, interpreter: Interpreter, provide_exactly: Provide, install: Install
) -> None:
    channel = provide_exactly(cache_dir, interpreter)
    install(channel, ["pip", f"python=={interpreter.version}"], tmp_path / "env")
    assert (tmp_path / "env/bin/pip").exists()


def test_without_ensurepip_pip_comes_from_the_index(
    interpreters: list[Interpreter],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    provide_exactly: Provide,
    install: Install,
) -> None:
    """As on a Debian without python3-venv: neither wheels in ensurepip nor any of the distribution's."""
    debian = [one for one in interpreters if one.layout is not None and one.layout.debian]
    if not debian:
        pytest.skip("this machine has no interpreter of Debian's")
    monkeypatch.setattr(distributions, "DISTRIBUTION_WHEELS", tmp_path / "nowhere")
    channel = provide_exactly(tmp_path, debian[0])
    packaged = {path.name.split("-")[0] for path in (channel.path / "noarch").glob("*.conda")}
    assert packaged == {"pip", "setuptools"}
    install(channel, [f"python=={debian[0].version}"], tmp_path / "env")
    output(tmp_path / "env/bin/python", "-m", "venv", tmp_path / "venv")
    assert str(tmp_path / "venv") in output(tmp_path / "venv/bin/pip", "--version")


def test_an_interpreter_that_does_not_move_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interpreters: list[Interpreter]
) -> None:
    """Debian's patches left in place: the trial in another prefix finds out, and says so."""
    from trainenv.channels.host import debian as debian_module
    from trainenv.errors import InterpreterError

    debian = [one for one in interpreters if one.layout is not None and one.layout.debian]
    if not debian:
        pytest.skip("this machine has no interpreter of Debian's")
    monkeypatch.setattr(debian_module, "undone", lambda entries, *_: entries)
    with pytest.raises(InterpreterError, match="it can't be moved: in another prefix its site_packages is"):
        provide(tmp_path, SilentReporter(), lambda version: version == debian[0].version)
    again = [one for one in find_interpreters(tmp_path) if one.executable == debian[0].executable]
    assert again and again[0].version == debian[0].version


def test_the_running_interpreter_is_found_by_its_base(interpreters: list[Interpreter]) -> None:
    running = [one for one in interpreters if one.source == "running"]
    assert [one.prefix for one in running] == [Path(sys.base_prefix)]

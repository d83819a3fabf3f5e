"""Installs pip from the wheels beside this file.

This file becomes ``ensurepip/__init__.py`` of packages made from Debian's interpreters. It runs in the
interpreter that it is packaged with, 3.8 or newer, and has what ``venv`` and users call of the
standard module of that name.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

__all__ = ["bootstrap", "version"]

_WHEELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_bundled")


def _bundled() -> dict[str, str]:
    """The wheels' file names by the name of what they install."""
    return {name.split("-")[0]: name for name in sorted(os.listdir(_WHEELS)) if name.endswith(".whl")}


def version() -> str:
    """The version of pip that is bundled."""
    return _bundled()["pip"].split("-")[1]


def bootstrap(
    *,
    root: str | None = None,
    upgrade: bool = False,
    user: bool = False,
    altinstall: bool = False,
    default_pip: bool = False,
    verbosity: int = 0,
) -> None:
    """Install what is bundled into this Python; pip's scripts are pipX.Y, pip3 and, on demand, pip."""
    status = _run_pip(root, upgrade, user, altinstall, default_pip, verbosity)
    if status:
        raise subprocess.CalledProcessError(status, "pip install")


def _run_pip(root: str | None, upgrade: bool, user: bool, altinstall: bool, default_pip: bool, verbosity: int) -> int:
    if altinstall and default_pip:
        raise ValueError("Cannot use altinstall and default_pip together")
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    variables["PIP_CONFIG_FILE"] = os.devnull
    if altinstall:
        variables["ENSUREPIP_OPTIONS"] = "altinstall"
    elif not default_pip:
        variables["ENSUREPIP_OPTIONS"] = "install"
    wheels = _bundled()
    arguments = ["install", "--no-cache-dir", "--no-index", "--find-links", _WHEELS]
    if root:
        arguments += ["--root", root]
    if upgrade:
        arguments.append("--upgrade")
    if user:
        arguments.append("--user")
    if verbosity:
        arguments.append("-" + "v" * verbosity)
    code = "import runpy, sys; sys.path[:0] = sys.argv.pop(1).split('|'); sys.argv[0] = 'pip'; "
    code += "runpy.run_module('pip', run_name='__main__', alter_sys=True)"
    paths = "|".join(os.path.join(_WHEELS, name) for name in wheels.values())
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, paths, *arguments, *wheels]
    return subprocess.run(command, env=variables, check=False).returncode


def _main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ensurepip")
    parser.add_argument("--version", action="version", version=f"pip {version()}", help="Show pip's version")
    parser.add_argument("-v", "--verbose", action="count", default=0, dest="verbosity", help="Say more")
    parser.add_argument("-U", "--upgrade", action="store_true", help="Upgrade pip, if it is there")
    parser.add_argument("--user", action="store_true", help="Install for the user only")
    parser.add_argument("--root", help="Install everything relative to this directory")
    parser.add_argument("--altinstall", action="store_true", help="Install no other script than pipX.Y")
    parser.add_argument("--default-pip", action="store_true", help="Install the script pip as well")
    return _run_pip(**vars(parser.parse_args(argv)))

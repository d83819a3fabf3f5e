"""Real parts for relocation to work on: shells, interpreters, a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Compile = Callable[..., Path]


def shells() -> list[list[str]]:
    """Every POSIX shell of this machine, as the beginning of a command."""
    found = [[path] for name in ("sh", "dash", "bash", "ksh", "mksh") if (path := shutil.which(name))]
    busybox = shutil.which("busybox")
    return [*found, [busybox, "sh"]] if busybox else found


def interpreters() -> list[str]:
    """The running CPython and every other from 3.8 on that PATH and pyenv have, one a version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    versions = [f"3.{minor}" for minor in range(8, 16)]
    candidates = [path for version in versions if (path := shutil.which(f"python{version}"))]
    candidates += [str(p) for version in versions for p in sorted(pyenv.glob(f"{version}.*/bin/python"))]
    by_version = {"running": sys.executable}
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in candidates:
        asked = subprocess.run(
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode == 0 and asked.stdout.strip() != running:
            by_version.setdefault(asked.stdout.strip(), candidate)
    return list(by_version.values())


@pytest.fixture(scope="session")
def compile_c() -> Compile:
    """``compile_c(source, output, *flags)``: build a C program or library with the system's compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None, "these tests build real ELF files and need a C compiler"

    def build(source: str, output: Path, *flags: str) -> Path:
        output.parent.mkdir(parents=True, exist_ok=True)
        command = [compiler, "-x", "c", "-", "-o", str(output), *flags]
        subprocess.run(command, input=source, text=True, check=True, capture_output=True)
        return output

    return build

"""Prefixes to pack: a small one made by hand with every kind of file, and a real environment."""

from __future__ import annotations

import json
import os
import py_compile
import random
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import support
from tests.conftest import python_here
from trainenv import Workspace, archives
from trainenv.channels.pypi import pip_settings
from trainenv.progress import SilentReporter

PLACEHOLDER_LENGTH = 255

BINARY = "lib/binary.bin"
BIG_BINARY = "share/big.bin"
BIG_TEXT = "share/big.txt"

TELLER = r"""
#include <stdio.h>
const char prefix[256] = "@PREFIX@/share";
int main(void) { puts(prefix); return 0; }
"""


Snapshot = dict[str, tuple[str, int, int, str | bytes]]


def make_prefix(prefix: Path) -> Path:
    """A prefix of a few files of every kind, which all name ``prefix`` where they can."""
    texts = {
        "conda-meta/history": "",
        "bin/python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
        "bin/tool": f"#!{prefix}/bin/python\nimport sys\nprint('tool', *sys.argv[1:])\n",
        "etc/conda/activate.d/tool.sh": f"TOOL_HOME={shlex.quote(str(prefix))}/share\n",
        "lib/pkgconfig/tool.pc": "prefix={}\nName: tool\n".format(str(prefix).replace(" ", "\\ ")),
        "share/jupyter/kernels/tool/kernel.json": json.dumps({"argv": [f"{prefix}/bin/python"]}, indent=1),
        "lib/python3.1/site-packages/dist-1.0.dist-info/direct_url.json": json.dumps(
            {"url": (prefix / "src").as_uri()}
        ),
        "etc/tool.conf": f"root={prefix}\nlibraries={prefix}/lib:/usr/lib\nsibling={prefix}-other\n",
        "lib/python3/site-packages/pkg/__init__.py": f"HOME = {str(prefix)!r}\n",
        "lib/python3/site-packages/pkg/plain.py": "def where():\n    return where.__code__.co_filename\n",
        "lib/python3.1/site-packages/dist-1.0.dist-info/METADATA": "Name: Dist\nVersion: 1.0\n",
        "lib/python3.1/site-packages/dist-1.0.dist-info/RECORD": "dist.py,,\ndist-1.0.dist-info/RECORD,,\n",
        "lib/python3.1/site-packages/dist.py": "x = 1\n",
        "share/ümläut/" + "long" * 40: "text\n",
        "share/" + "/".join(["deep" * 20] * 4): "deep\n",
    }
    for path, text in texts.items():
        (prefix / path).parent.mkdir(parents=True, exist_ok=True)
        (prefix / path).write_text(text)
    for path in ("bin/python", "bin/tool"):
        (prefix / path).chmod(0o755)
    (prefix / "share/empty/inner").mkdir(parents=True)
    (prefix / "bin/tool-by-absolute-link").symlink_to(prefix / "bin/tool")
    (prefix / "share/up").symlink_to("../etc/tool.conf")
    binary = b"\0\1head\0" + os.fsencode(prefix) + b"/lib/x:" + os.fsencode(prefix) + b"/lib" + bytes(600) + b"tail"
    (prefix / BINARY).write_bytes(binary)
    noise = random.Random(7).randbytes(9 << 20)
    somewhere = (8 << 20) - len(os.fsencode(prefix)) // 2
    filled = os.fsencode(prefix) + b"/share" + bytes(400)
    (prefix / BIG_BINARY).write_bytes(b"\0" + noise[:somewhere] + b"\0" + filled + noise[somewhere:])
    line = b"x" * 79 + b"\n"
    mention = b"see " + os.fsencode(prefix) + b"/etc\n"
    (prefix / BIG_TEXT).write_bytes(mention + line * 70_000 + mention + line * 60_000 + mention)
    for name in ("__init__", "plain"):
        source = prefix / f"lib/python3/site-packages/pkg/{name}.py"
        os.utime(source, (1_600_000_000, 1_600_000_000))
        py_compile.compile(str(source), doraise=True)
    record = {
        "name": "tool",
        "version": "1.0",
        "build": "0",
        "subdir": "linux-64",
        "url": "https://user:secret@mirror.invalid/t/tk-123/linux-64/tool-1.0-0.conda",
        "channel": "https://user:secret@mirror.invalid/t/tk-123",
        "extracted_package_dir": "/somewhere/pkgs/tool-1.0-0",
        "link": {"source": "/somewhere/pkgs/tool-1.0-0", "type": 2},
        "files": ["bin/tool", "etc/tool.conf", BINARY, BIG_BINARY],
        "paths_data": {
            "paths_version": 1,
            "paths": [
                {"_path": "bin/tool", "path_type": "hardlink", "sha256_in_prefix": "0" * 64},
                *(
                    {
                        "_path": path,
                        "path_type": "hardlink",
                        "file_mode": "binary",
                        "prefix_placeholder": "/" + "p" * (PLACEHOLDER_LENGTH - 1),
                    }
                    for path in (BINARY, BIG_BINARY)
                ),
            ],
        },
    }
    (prefix / "conda-meta/tool-1.0-0.json").write_text(json.dumps(record))
    return prefix


def snapshot(prefix: Path) -> Snapshot:
    """Kind, mode, mtime in seconds (of packed files) and content or target of all that is in ``prefix``."""
    found: Snapshot = {}
    for folder, folders, files in os.walk(prefix):
        for name in folders + files:
            path = Path(folder, name)
            status = path.lstat()
            relative = str(path.relative_to(prefix))
            mode = stat.S_IMODE(status.st_mode)
            if path.is_symlink():
                found[relative] = ("link", 0, 0, os.readlink(path))
            elif path.is_dir():
                found[relative] = ("folder", mode, 0, "")
            else:
                mtime = 0 if relative == "conda-meta/trainenv/prefix" else int(status.st_mtime)
                found[relative] = ("file", mode, mtime, path.read_bytes())
    return found


def pack(prefix: Path, output: Path, **options: object) -> archives.Archive:
    """Pack with defaults that tests rarely care about."""
    return archives.pack(prefix, output, **({"name": "chat", "reporter": SilentReporter()} | options))  # type: ignore[arg-type]


def unpack(archive: Path, target: Path, target_prefix: str | None = None) -> archives.Manifest:
    """Unpack into the new folder ``target``."""
    target.mkdir(parents=True)
    reporter = SilentReporter()
    return archives.unpack(archive, target, target_prefix=target_prefix or str(target), reporter=reporter)


def extract(archive: Path, target: Path) -> Path:
    """What a machine without trainenv does: the real ``tar``."""
    target.mkdir(parents=True)
    subprocess.run(["tar", "--zstd", "-xf", archive, "-C", target], check=True)
    return target


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prefix made by ``make_prefix``, not to be changed."""
    return make_prefix(tmp_path_factory.mktemp("small") / "envs" / "chat")


@pytest.fixture(scope="session")
def small_archive(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of ``small``, not to be changed."""
    return pack(small, tmp_path_factory.mktemp("archive") / "chat.tar.zst").path


@pytest.fixture(scope="session")
def tiny_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the small prefix without its big files, so that many variants are quick."""
    base = tmp_path_factory.mktemp("tiny")
    prefix = make_prefix(base / "chat")
    shutil.rmtree(prefix / "share")
    return pack(prefix, base / "chat.tar.zst").path


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Iterator[Path]:
    """A real environment: an interpreter, a wheel with a console script, and a compiled program.

    Not to be changed; its prefix is longer than most.
    """
    base = tmp_path_factory.mktemp("machine_a_with_a_long_folder_name")
    support.make_wheel(
        base / "wheels",
        "greeter",
        files={"greeter/__init__.py": "def main():\n    import sys\n    print('hello from', sys.prefix)\n"},
        scripts={"greet": "greeter:main"},
    )
    (base / "requirements.txt").write_text("greeter\n")
    (base / "trainenv.toml").write_text(f'cache_dir = "{shared_cache}"\nchannels = ["host"]\n')
    home = Path("~").expanduser()
    with pytest.MonkeyPatch.context() as patch:
        if (home / ".pyenv").is_dir():
            patch.setenv("PYENV_ROOT", os.environ.get("PYENV_ROOT", str(home / ".pyenv")))
        patch.setenv("HOME", str(base))
        patch.setenv("PIP_FIND_LINKS", str(base / "wheels"))
        patch.setenv("PIP_NO_INDEX", "1")
        pip_settings.cache_clear()
        made = Workspace(base).create("chat", f"python={python_here()}", files=[base / "requirements.txt"])
    pip_settings.cache_clear()
    _add_teller(made.prefix)
    (site_packages,) = made.prefix.glob("lib/python3*/site-packages")
    subprocess.run([made.prefix / "bin/python", "-m", "compileall", "-q", site_packages], check=True)
    yield made.prefix
    shutil.rmtree(base)


def _add_teller(prefix: Path) -> None:
    """A program with the prefix compiled in, as a conda package would bring it."""
    source = prefix / "share" / "teller.c"
    source.parent.mkdir(exist_ok=True)
    source.write_text(TELLER.replace("@PREFIX@", str(prefix)))
    subprocess.run(["gcc", "-o", prefix / "bin/teller", source], check=True)
    paths = [
        {
            "_path": "bin/teller",
            "path_type": "hardlink",
            "file_mode": "binary",
            "prefix_placeholder": "/" + "p" * 248,
        }
    ]
    record = {"name": "teller", "version": "1.0", "build": "0", "build_number": 0, "files": ["bin/teller"]}
    record |= {"subdir": "linux-64", "fn": "teller-1.0-0.conda", "url": "file:///teller-1.0-0.conda", "channel": "x"}
    record |= {"depends": [], "link": None, "paths_data": {"paths_version": 1, "paths": paths}}
    (prefix / "conda-meta/teller-1.0-0.json").write_text(json.dumps(record))


@pytest.fixture(scope="session")
def environment_archive(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of ``environment``, not to be changed."""
    return pack(environment, tmp_path_factory.mktemp("real_archive") / "chat.tar.zst").path

"""Each kind of conda package from one crafted channel, from a folder and from a server that asks who we are."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import support
from tests.conftest import RunCommand, python_here
from trainenv import Workspace

USER, SECRET = "reader", "s3cret-Pa55word"

_TELLER = """\
#include <stdio.h>
static const char place[] = "@PREFIX@/share/teller.txt";
int main(void) { printf("%s\\n", place); return 0; }
"""


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """noarch Python with an entry point, a binary with the prefix in it, a post-link script, pins, a GPU's need."""
    folder = support.make_channel(tmp_path_factory.mktemp("channel"))
    source, program = folder / "teller.c", folder / "teller"
    source.write_text(_TELLER.replace("@PREFIX@", support.PLACEHOLDER))
    subprocess.run(["gcc", "-o", program, source], check=True)
    support.add_package(
        folder,
        "greeter",
        files={"site-packages/greeter.py": "import sys\n\ndef main():\n    print('hello from', sys.prefix)\n"},
        depends=["python >=3.8"],
        entry_points=["greet = greeter:main"],
    )
    support.add_package(
        folder, "teller", programs={"bin/teller": program.read_bytes()}, subdir="linux-64", depends=["data"]
    )
    support.add_package(folder, "data", "1.0", files={"share/teller.txt": "old\n"})
    support.add_package(folder, "data", "2.0", files={"share/teller.txt": "new\n"})
    support.add_package(folder, "pinned", constrains=["data <2"])
    support.add_package(folder, "strict", depends=["data >=2", "pinned"])
    support.add_package(folder, "gpu", depends=["__cuda >=12"])
    support.add_package(folder, "scripted", files={"bin/.scripted-post-link.sh": 'echo done > "$PREFIX/linked"\n'})
    return folder


@contextmanager
def _reached(channel: Path, how: str) -> Iterator[str]:
    if how == "folder":
        yield str(channel)
    else:
        with support.guarded(channel, login=(USER, SECRET), drops=1) as server:
            yield server.address(USER, SECRET)


@pytest.mark.parametrize("how", ["folder", "server"])
def test_they_are_installed_as_they_ask_for(
    how: str, channel: Path, workspace: Workspace, trainenv: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINENV_LINK_SCRIPTS", "true")
    with _reached(channel, how) as address:
        wanted = [f"python={python_here()}", "greeter", "teller", "pinned", "scripted", "gpu", "--cuda", "12.4"]
        done = trainenv(workspace, "create", "-n", "one", "-c", address, "-c", "host", *wanted)
        assert done.returncode == 0, done.stderr
        prefix = workspace.settings.prefix_of("one")
        assert trainenv(workspace, "run", "-n", "one", "greet").stdout == f"hello from {prefix}\n"
        assert trainenv(workspace, "run", "-n", "one", "teller").stdout == f"{prefix}/share/teller.txt\n"
        assert (prefix / "share/teller.txt").read_text() == "old\n"  # ``pinned`` allows no newer one.
        assert (prefix / "linked").read_text() == "done\n"
        verified = trainenv(workspace, "env", "verify", "one")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        refused = trainenv(workspace, "create", "-n", "two", "-c", address, "strict")
        without_gpu = trainenv(workspace, "create", "-n", "two", "-c", address, "gpu", "--cuda", "none")
    assert refused.returncode == without_gpu.returncode == 1
    assert "data" in refused.stderr
    assert "__cuda" in without_gpu.stderr
    assert support.holders_of_secret(SECRET, workspace.settings.root) == []

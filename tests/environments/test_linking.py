"""An environment in a folder with awkward characters: its files name it so that every program understands."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

from tests import support
from tests.conftest import MakeWorkspace, RunCommand
from trainenv.environments.records import conda_records

AWKWARD = "Anna's modèles 100% (a & b); #{c} 😀"
FILES = {
    "bin/where": "#!/bin/sh\necho @PREFIX@/a '@PREFIX@/b' \"@PREFIX@/c\"\n",
    "lib/pkgconfig/tool.pc": "prefix=@PREFIX@\nName: tool\nDescription: x\nVersion: 1\nCflags: -I${prefix}/include\n",
    "lib/x.py": "WHERE = '@PREFIX@'\n",
    "share/x.json": '{"url": "file://@PREFIX@/x", "path": "@PREFIX@"}',
}


def test_packages_name_it_rightly_and_keep_true_hashes(
    make_workspace: MakeWorkspace, tmp_path: Path, trainenv: RunCommand
) -> None:
    channel = support.make_channel(tmp_path / "channel")
    program = b"\0\1" + support.PLACEHOLDER.encode() + b"/lib\0"
    support.add_package(channel, "tool", prefix_files=FILES, programs={"bin/program": program})
    place = make_workspace(AWKWARD, f'channels = ["{channel}"]')
    made = place.create("chat", "tool")
    prefix = made.prefix
    said = subprocess.run(["sh", prefix / "bin/where"], capture_output=True, text=True, check=True).stdout
    assert said == f"{prefix}/a {prefix}/b {prefix}/c\n"
    scope: dict[str, str] = {}
    exec((prefix / "lib/x.py").read_text(), scope)
    assert scope["WHERE"] == str(prefix)
    assert json.loads((prefix / "share/x.json").read_text()) == {"url": f"{prefix.as_uri()}/x", "path": str(prefix)}
    assert str(prefix).encode() in (prefix / "bin/program").read_bytes()
    (record,) = conda_records(prefix)
    for entry in record.paths:
        digest = hashlib.sha256((prefix / entry["_path"]).read_bytes()).hexdigest()
        assert entry["sha256_in_prefix"] == digest
    assert place.verify(made).problems == []
    (prefix / "bin/where").unlink()
    assert trainenv(place, "env", "repair", "chat").returncode == 0
    assert place.verify(made).problems == []
    again = subprocess.run(["sh", prefix / "bin/where"], capture_output=True, text=True, check=True).stdout
    assert again == said

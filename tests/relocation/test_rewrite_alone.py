"""What rewrites runs by itself, under any Python an environment may have."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.relocation.conftest import interpreters
from trainenv.archives.conda_unpack import kernel
from trainenv.relocation import PLACEHOLDER, find, rewrite

ALONE = """
import json, sys
scope = {}
exec(compile(sys.argv[1], "alone", "exec"), scope)
assert not any(name.split(".")[0] in ("trainenv", "mmap") for name in sys.modules)
data = bytes.fromhex(sys.argv[2])
record = scope["Occurrences"].from_json(json.loads(sys.argv[3]))
old, new, path = sys.argv[4:]
scope["check_room"](record, new, path)
moved, after = scope["rewrite"](data, record, old, new, path)
assert after == scope["shifted"](record, old, new)
assert scope["rewrite"](moved, after, new, old, path, portable=True) == (data, record)
print(json.dumps([moved.hex(), after.to_json(), scope["PLACEHOLDER"]]))
"""
SAMPLES = {
    "bin/tool": b"#!/opt/a/bin/python3.11 -I\n# coding: utf-8\nprint('/opt/a/x')\n",
    "lib/x.so": b"\x7fELF\0/opt/a/lib:/opt/a/lib64\0" + b"\0" * 100,
    "lib/m.pyc": b"\xa7\r\r\n" + b"\0" * 12 + b"(\x01\0\0\0\xfa\x0b/opt/a/m.pyN",
    "lib/direct_url.json": b'{"url": "file:///opt/a/src", "folder": "/opt/a"}',
    "lib/x.sh": b"#!/bin/sh\n/opt/a/x '/opt/a/y' \"/opt/a/z\" # /opt/a\n",
    "share/x.xml": b"<x>/opt/a/x</x>",
}
TARGET = "/srv/\U0001f600 'is' \"100%\" \\ <a> & b@c/é"


@pytest.mark.parametrize("interpreter", interpreters())
@pytest.mark.parametrize("path", SAMPLES)
def test_it_does_the_same_alone(interpreter: str, path: str) -> None:
    data = SAMPLES[path]
    occurrences = find(data, "/opt/a", path, placeholder_length=40)
    assert occurrences is not None
    canonical, record = rewrite(data, occurrences, "/opt/a", PLACEHOLDER, path, portable=True)
    arguments = [kernel(), canonical.hex(), json.dumps(record.to_json()), PLACEHOLDER, TARGET, path]
    command = [interpreter, "-I", "-S", "-c", ALONE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    moved, after = rewrite(canonical, record, PLACEHOLDER, TARGET, path)
    assert json.loads(done.stdout) == [moved.hex(), after.to_json(), PLACEHOLDER]


def test_it_does_not_hold_the_placeholder_itself() -> None:
    assert PLACEHOLDER not in kernel()

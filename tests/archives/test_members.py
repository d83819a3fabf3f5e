"""The list of members: the same after it was written and read, and small however long it is."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

from hypothesis import given
from hypothesis import strategies as st

from trainenv.archives import columns, tarformat
from trainenv.archives.members import File, Files

MANY = 200_000
MOST_MEMORY = 160 << 20
"""Bytes of a process that reads and checks the manifest of so many files."""

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=120)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
files = st.builds(
    File,
    path=names,
    kind=st.just("file"),
    mode=st.integers(0, 0o777),
    mtime=st.integers(0, 8**11 - 1),
    size=st.integers(0, 8**11 + 5),
    sha256=digests,
    owner=st.sampled_from(["", "conda:a", "pypi:b"]),
    occurrences=st.none() | st.builds(lambda at: f'{{"kind":"text","offsets":[{at}]}}', st.integers(0, 1 << 40)),
    absent=st.booleans(),
    target=st.just(""),
    number=st.just(0),
)
links = st.builds(lambda path, target: File(path, "link", 0o777, 0, target=target), names, names)


@given(st.lists(st.tuples(st.sampled_from(["", "a/", "a/b/"]), files | links), max_size=12))
def test_written_and_read_they_are_the_same_and_lie_one_behind_the_other(members: list[tuple[str, File]]) -> None:
    folders = [File(path, "folder", 0o755, 0) for path in ("a", "a/b")]
    listed = Files([*folders, *(file._replace(path=folder + file.path) for folder, file in members)])
    document = "".join(columns.encoded(listed.with_digits(columns.SHORTENED)))
    read = columns.decoded(json.loads(document, object_pairs_hook=columns.made_of))
    for was, now in zip(listed, read, strict=True):
        known = columns.SHORTENED if was.absent else 64
        assert now == was._replace(sha256=was.sha256[:known])
        head = tarformat.header(was.path, was.kind, was.mode, was.size, was.mtime, was.target)
        taken = 0 if was.absent else len(head) + was.size + tarformat.padding(was.size)
        assert read.begins[now.number + 1] - read.begins[now.number] == taken
    assert "".join(columns.encoded(read)) == document


def test_many_take_little_memory() -> None:
    program = f"""
        import hashlib
        from trainenv.archives.checks import checked
        from trainenv.archives.manifest import HostNeeds, Manifest, relocation_json
        from trainenv.archives.members import File, Files
        from trainenv.relocation import PLACEHOLDER

        files = Files(File(path, "folder", 0o755, 0) for path in ("bin", "conda-meta", "conda-meta/trainenv", "lib"))
        for number in range({MANY}):
            digest = hashlib.sha256(b"%d" % number).hexdigest()
            held = '{{"kind":"pyc","offsets":[%d],"strings":[[%d,250,30]]}}' % (number, number)
            name = f"lib/a_module_of_some_length_{{number}}.py"
            held = None if number % 4 else held
            files.add(File(name, "file", 0o644, number, number, digest, "pypi:many", occurrences=held))
        files.add(File("bin/conda-unpack", "file", 0o755, 0, 1, "0" * 64, "trainenv"))
        content = b"".join(relocation_json(PLACEHOLDER, files))
        about = len(content), hashlib.sha256(content).hexdigest()
        files.add(File("conda-meta/trainenv/relocation.json", "file", 0o644, 0, *about, "trainenv"))
        document = Manifest("many", "linux-64", None, "", (), HostNeeds(), files).to_json()
        del files, content
        assert len(checked("many", document, []).files) == {MANY + 6}
        print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
    """
    peak = int(subprocess.check_output([sys.executable, "-c", textwrap.dedent(program)], text=True)) * 1024
    assert peak < MOST_MEMORY, peak >> 20

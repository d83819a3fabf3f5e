"""Two thousand archives and more, each changed at random somewhere: refused by name, or none the worse for it."""

from __future__ import annotations

import copy
import os
import random
import resource
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.archives.conftest import Snapshot, make_prefix, pack, snapshot, unpack
from tests.archives.test_damage import _forge, _parts
from trainenv import Workspace
from trainenv.errors import TrainenvError

PREFIX = "/opt/chat"

MOST_MEMORY = 256 << 20
"""Bytes by which a format's mutations may raise the highest memory use of this process."""


def flip(rng: random.Random, content: bytearray) -> None:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def overwrite(rng: random.Random, content: bytearray) -> None:
    begin = rng.randrange(len(content))
    size = rng.choice([1, 2, 4, 8, 64, 512])
    content[begin : begin + size] = rng.choice([bytes(size), b"\xff" * size, rng.randbytes(size)])


def cut_out(rng: random.Random, content: bytearray) -> None:
    begin = rng.randrange(len(content))
    del content[begin : begin + rng.choice([1, 4, 512, 5000])]


def repeat(rng: random.Random, content: bytearray) -> None:
    begin = rng.randrange(len(content))
    content[begin:begin] = content[begin : begin + rng.choice([1, 8, 512, 5000])]


def swap(rng: random.Random, content: bytearray) -> None:
    size = rng.choice([4, 8, 512])
    one, other = rng.randrange(len(content)), rng.randrange(len(content))
    content[one : one + size], content[other : other + size] = (
        content[other : other + size],
        content[one : one + size],
    )


def cut_short(rng: random.Random, content: bytearray) -> None:
    del content[rng.randrange(len(content)) :]


def grow(rng: random.Random, content: bytearray) -> None:
    content += rng.choice([bytes(512), bytes(1024), rng.randbytes(100), bytes(content[-600:])])


def number(rng: random.Random, content: bytearray) -> None:
    """An extreme number where the formats have theirs: mostly near the end, in each byte order and width."""
    size = rng.choice([2, 4, 8])
    value = rng.choice([0, 1, (1 << 8 * size) - 1, 1 << (8 * size - 1), len(content)]) % (1 << 8 * size)
    begin = rng.randrange(max(0, len(content) - 400), len(content)) if rng.random() < 0.7 else rng.randrange(400)
    content[begin : begin + size] = value.to_bytes(size, rng.choice(["little", "big"]))


MUTATIONS = [flip, overwrite, cut_out, repeat, swap, cut_short, grow, number]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One environment in each form that is a file, not to be changed."""
    base = tmp_path_factory.mktemp("fuzz")
    prefix = make_prefix(base / "chat")
    shutil.rmtree(prefix / "share")
    found = {name: pack(prefix, base / f"chat.{name}").path for name in ("tar.zst", "tar.gz", "tar", "squashfs")}
    found["script"] = pack(prefix, base / "chat.sh", self_extracting=True).path
    return found


@pytest.fixture(scope="module")
def good(packed: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    target = tmp_path_factory.mktemp("good") / "p"
    unpack(packed["tar.zst"], target, PREFIX)
    return snapshot(target)


@pytest.fixture
def rng() -> random.Random:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def bounded() -> Iterator[None]:
    """Whatever an archive claims, no more memory is taken for it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < MOST_MEMORY


def attempt(archive: Path, place: Path, good: Snapshot, about: object) -> bool:
    """Unpack into a folder of ``place``; True if it was refused, in one line with the archive's name."""
    target = place / "inside" / "target"
    refused = False
    try:
        unpack(archive, target, PREFIX)
    except TrainenvError as error:
        refused = True
        assert archive.name in str(error), (about, str(error))
        assert "\n" not in str(error), (about, str(error))
    else:
        assert snapshot(target) == good, about
    assert os.listdir(place) == ["inside"], about
    assert os.listdir(place / "inside") == ["target"], about
    shutil.rmtree(target)
    return refused


@pytest.mark.parametrize(
    ("name", "times"), [("tar.zst", 700), ("tar.gz", 500), ("tar", 500), ("script", 300), ("squashfs", 100)]
)
def test_changed_bytes(
    name: str, times: int, packed: dict[str, Path], good: Snapshot, rng: random.Random, bounded: None, tmp_path: Path
) -> None:
    whole = packed[name].read_bytes()
    archive = tmp_path / packed[name].name
    place = tmp_path / "place"
    (place / "inside").mkdir(parents=True)
    refused = 0
    for _ in range(times):
        content = bytearray(whole)
        change = rng.choice(MUTATIONS)
        change(rng, content)
        archive.write_bytes(content)
        refused += attempt(archive, place, good, change.__name__)
    assert refused > times / 2


VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1 << 70,
    1.5,
    "",
    "..",
    "/etc/passwd",
    "bin/../../x",
    "a" * 5000,
    "\0",
    [],
    {},
    [[]],
]
VALUES += [
    "file",
    "link",
    "folder",
    "0" * 64,
    "bin/python",
    {"kind": "text"},
    {"kind": "binary", "spans": [[0, 1 << 40]]},
]


def nodes(value: Any) -> list[tuple[Any, Any]]:
    """Each place in a JSON document, as (what holds it, key or index)."""
    found: list[tuple[Any, Any]] = []
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found += [(value, key), *nodes(value[key])]
    return found


def edit(rng: random.Random, document: Any) -> None:
    """Change one place: another value, none, one of elsewhere, or one more."""
    places = nodes(document)
    holder, key = rng.choice(places)
    how = rng.randrange(5)
    if how == 0:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    elif how == 1:
        del holder[key]
    elif how == 2:
        other, its = rng.choice(places)
        holder[key] = copy.deepcopy(other[its])
    elif how == 3 and isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    elif isinstance(holder[key], str) and len(holder[key]) > 1:
        at = rng.randrange(len(holder[key]))
        letter = rng.choice(["", *"/.dfla0A\0", holder[key][at - 1]])
        holder[key] = holder[key][:at] + letter + holder[key][at + 1 :]
    elif isinstance(holder[key], int):
        holder[key] += rng.choice([-1, 1, 512, 1 << 31])
    else:
        holder[key] = copy.deepcopy(rng.choice(VALUES))


def content_of(document: dict[str, Any]) -> list[Any]:
    """What an archive says of its files; the rest, and whose they are, does not change what is unpacked."""
    files = document.get("files")
    if not isinstance(files, dict):
        return [files]
    return [(name, column) for name, column in files.items() if name not in ("owners", "owned")]


def test_manifests_that_lie_with_a_right_hash(
    packed: dict[str, Path], good: Snapshot, rng: random.Random, bounded: None, tmp_path: Path
) -> None:
    manifest, contents = _parts(packed["tar.zst"])
    place = tmp_path / "place"
    (place / "inside").mkdir(parents=True)
    refused = 0
    for _ in range(700):
        changes: list[bool] = []

        def lie(document: dict[str, Any], changes: list[bool] = changes) -> None:
            honest = copy.deepcopy(content_of(document))
            edit(rng, document)
            changes.append(content_of(document) != honest)

        forged = _forge(tmp_path / "forged.tar.zst", manifest, contents, edit_document=lie)
        if changes == [True]:
            refused += attempt(forged, place, good, "lie")
        else:
            with suppress(TrainenvError):
                unpack(forged, tmp_path / "harmless", PREFIX)
            shutil.rmtree(tmp_path / "harmless")
    assert refused > 350


def conda_packs_tar(prefix: Path, output: Path) -> None:
    with tarfile.open(output, "w:gz", compresslevel=1) as tar:
        for path in sorted(prefix.rglob("*")):
            tar.add(path, str(path.relative_to(prefix)), recursive=False)


def conda_packs_zip(prefix: Path, output: Path) -> None:
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(prefix.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, str(path.relative_to(prefix)))


@pytest.mark.parametrize(("write", "ending"), [(conda_packs_tar, "tar.gz"), (conda_packs_zip, "zip")])
def test_changed_bytes_of_other_programs_archives(
    write: Callable[[Path, Path], None],
    ending: str,
    workspace: Workspace,
    rng: random.Random,
    bounded: None,
    tmp_path: Path,
) -> None:
    prefix = make_prefix(tmp_path / "prefix")
    shutil.rmtree(prefix / "share")
    write(prefix, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    archive = tmp_path / f"chat.{ending}"
    for _ in range(150):
        content = bytearray(whole)
        change = rng.choice(MUTATIONS)
        change(rng, content)
        archive.write_bytes(content)
        with suppress(TrainenvError):  # Without hashes of its own a change may go unseen; the interpreter is started.
            workspace.inspect(archive, verify=True)
        with pytest.raises(TrainenvError) as error:  # Its python is none, so it never proves itself.
            workspace.unpack(archive, "bad")
        assert "\n" not in str(error.value)
        assert workspace.environments() == []
        assert not list(workspace.settings.envs_dir.glob(".trainenv/staging/*/"))

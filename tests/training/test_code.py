"""A method's code: a hash that tells any two versions apart and only those, and a copy that comes back whole."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from trainenv.errors import TaskError
from trainenv.training import code

MIB = 1 << 20


def test_the_hash_follows_names_content_and_mode(tmp_path: Path) -> None:
    found = []
    file = tmp_path / "train.py"
    file.write_text("one")
    found.append(code.read(tmp_path).sha256)
    file.write_text("two")
    found.append(code.read(tmp_path).sha256)
    file.chmod(0o755)
    found.append(code.read(tmp_path).sha256)
    file = file.rename(tmp_path / "main.py")
    found.append(code.read(tmp_path).sha256)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "more.py").touch()
    found.append(code.read(tmp_path).sha256)
    assert len(set(found)) == 5


def test_what_running_leaves_behind_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("one")
    before = code.read(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "train.cpython-311.pyc").touch()
    (tmp_path / ".hidden").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert code.read(tmp_path) == before


def test_the_same_code_in_two_places_has_one_hash_and_is_packed_alike(tmp_path: Path) -> None:
    for place in ("here", "there/deep"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "b.py").write_text("b")
        (tmp_path / place / "a.py").write_text("a")
    here, there = code.read(tmp_path / "here"), code.read(tmp_path / "there/deep")
    assert here.sha256 == there.sha256 and code.packed(here) == code.packed(there)


def method_with_data(folder: Path) -> None:
    (folder / "package").mkdir(parents=True)
    (folder / "train.py").write_text("print('train')")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "package" / "part.py").write_text("x = 'é'")
    (folder / "package" / "weights.bin").write_bytes(os.urandom(MIB + 1))
    (folder / "images" / "cats").mkdir(parents=True)
    for number in range(1001):
        (folder / "images" / "cats" / f"{number}.png").write_bytes(b"png")
    (folder.parent / "corpus").mkdir()
    (folder.parent / "corpus" / "text").write_text("words")
    (folder / "corpus").symlink_to("../corpus")


def test_code_is_copied_and_data_beside_it_linked(tmp_path: Path) -> None:
    method_with_data(tmp_path / "method")
    found = code.read(tmp_path / "method")
    archive = tmp_path / "code.tar.gz"
    archive.write_bytes(code.packed(found))
    assert archive.stat().st_size < 10_000
    back = code.unpacked(archive)
    assert back == found and back.sha256 == found.sha256

    code.write(back, tmp_path / "restored")
    (tmp_path / "by_tar").mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", "by_tar"], cwd=tmp_path, check=True)
    for restored in (tmp_path / "restored", tmp_path / "by_tar"):
        assert (restored / "train.py").read_text() == "print('train')"
        assert (
            os.access(restored / "run.sh", os.X_OK) and not os.access(restored / "train.py", os.X_OK)
        ) or not os.getuid()
        assert (restored / "run.sh").stat().st_mode & 0o100 and not (restored / "train.py").stat().st_mode & 0o100
        assert not (restored / "package").is_symlink() and (restored / "package" / "part.py").is_file()
        assert (restored / "package" / "weights.bin").is_symlink()
        assert (restored / "package" / "weights.bin").stat().st_size == MIB + 1
        assert (restored / "images").is_symlink() and len(list((restored / "images" / "cats").iterdir())) == 1001
        assert (restored / "corpus" / "text").read_text() == "words"


def test_of_data_names_and_sizes_count(tmp_path: Path) -> None:
    method_with_data(tmp_path / "method")
    before = code.read(tmp_path / "method")
    (tmp_path / "method" / "images" / "cats" / "7.png").write_bytes(b"gnp")
    assert code.read(tmp_path / "method").sha256 == before.sha256
    (tmp_path / "method" / "images" / "cats" / "7.png").write_bytes(b"longer")
    (tmp_path / "method" / "package" / "part.py").write_text("x = 2")
    (tmp_path / "method" / "train.py").rename(tmp_path / "method" / "main.py")
    assert code.read(tmp_path / "method").differences(before) == ["images", "main.py", "package/part.py", "train.py"]


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    for number in range(1500):
        (tmp_path / f"{number}.py").write_bytes(b"#" * (20 << 10))
    found = code.read(tmp_path)
    assert sum(part.size for part in found.parts if part.content is not None) <= 16 * MIB
    assert sum(part.files for part in found.parts) == 1500


@pytest.mark.parametrize("name", ["../outside.py", "/etc/outside.py", "a/../../outside.py"])
def test_a_hostile_or_damaged_copy_is_refused(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "code.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(TaskError, match="no copy of a method's code"):
        code.unpacked(archive)
    (tmp_path / "train.py").write_bytes(os.urandom(10_000))
    whole = code.packed(code.read(tmp_path))
    for damaged in (whole[:5000], whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:], b""):
        archive.write_bytes(damaged)
        with pytest.raises(TaskError, match="can't be read"):
            code.unpacked(archive)

"""A whole tree moves, and nothing else does."""

from __future__ import annotations

import io
import json
import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

from tests.relocation.conftest import Compile
from trainenv.errors import RelocationError, TrainenvError
from trainenv.progress import JsonLinesReporter
from trainenv.relocation import (
    NoRoomError,
    Occurrences,
    PrefixTooLongError,
    find_in_tree,
    leftovers,
    relocate_tree,
)
from trainenv.relocation import tree as tree_module

OLD = "/opt/envs/a"
NEW = "/srv/a much longer place/env"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of every kind that name ``OLD``, and some that don't."""
    root = tmp_path / "tree"
    package = root / "lib/python3.11/site-packages/pkg"
    package.mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "bin/tool").write_text(f"#!{OLD}/bin/python3.11\nprint('x')\n")
    (root / "bin/tool").chmod(0o750)
    (root / "lib/x.so").write_bytes(b"\x01\0" + OLD.encode() + b"/lib\0" + b"\0" * 90 + b"\x02")
    (root / "lib/pkg.pc").write_text(f"prefix={OLD}\nother=/opt/envs/ab\n")
    (root / "lib/plain.txt").write_text("nothing here")
    (package / "config.py").write_text(f"HOME = {OLD!r}\n")
    py_compile.compile(str(package / "config.py"), dfile=f"{OLD}/lib/config.py", doraise=True)
    (root / "lib/absolute").symlink_to(f"{OLD}/lib/pkg.pc")
    (root / "lib/sibling").symlink_to("/opt/envs/ab")
    (root / "lib/relative").symlink_to("pkg.pc")
    os.mkfifo(root / "lib/fifo")
    return root


def state(root: Path) -> dict[str, object]:
    return {
        str(path.relative_to(root)): os.readlink(path)
        if path.is_symlink()
        else (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_a_tree_moves_and_comes_back(tree: Path) -> None:
    before = state(tree)
    lengths = {"lib/x.so": 100}
    moved = relocate_tree(tree, OLD, NEW, placeholder_lengths=lengths)
    assert list(moved) == [
        "bin/tool",
        "lib/pkg.pc",
        f"lib/python3.11/site-packages/pkg/__pycache__/config.{sys.implementation.cache_tag}.pyc",
        "lib/python3.11/site-packages/pkg/config.py",
        "lib/x.so",
    ]
    assert (tree / "lib/pkg.pc").read_text() == "prefix={}\nother=/opt/envs/ab\n".format(NEW.replace(" ", "\\ "))
    assert os.readlink(tree / "lib/absolute") == f"{NEW}/lib/pkg.pc"
    assert os.readlink(tree / "lib/sibling") == "/opt/envs/ab"
    assert os.readlink(tree / "lib/relative") == "pkg.pc"
    assert leftovers(tree, [OLD]) == []
    assert (tree / "bin/tool").stat().st_mode & 0o777 == 0o750
    assert not list(tree.rglob(".relocated*"))
    relocate_tree(tree, NEW, OLD)
    assert state(tree) == before


def test_what_was_found_is_what_a_new_search_finds(tree: Path) -> None:
    moved = relocate_tree(tree, OLD, "/srv/envs/b")
    assert find_in_tree(tree, "/srv/envs/b") == moved


def test_a_compiled_module_stays_valid(tree: Path) -> None:
    """Python says itself whether it takes the .pyc or compiles the source again."""
    relocate_tree(tree, OLD, NEW, placeholder_lengths={"lib/x.so": 100})
    package = tree / "lib/python3.11/site-packages/pkg"
    done = subprocess.run(
        [sys.executable, "-v", "-c", "import config; print(config.HOME)"],
        cwd=package,
        env={"PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == NEW
    assert f"{package}/__pycache__/config.{sys.implementation.cache_tag}.pyc matches" in done.stderr


def test_other_names_of_a_file_keep_what_they_have(tree: Path, tmp_path: Path) -> None:
    cached = tmp_path / "cached.pc"
    cached.hardlink_to(tree / "lib/pkg.pc")
    relocate_tree(tree, OLD, "/srv/b")
    assert cached.read_text().startswith(f"prefix={OLD}\n")
    assert (tree / "lib/pkg.pc").read_text().startswith("prefix=/srv/b\n")


def test_no_room_is_known_before_anything_is_written(tree: Path) -> None:
    before = state(tree)
    with pytest.raises(PrefixTooLongError) as caught:
        relocate_tree(tree, OLD, NEW)
    assert isinstance(caught.value, NoRoomError)
    assert isinstance(caught.value, TrainenvError)
    assert caught.value.path == "lib/x.so"
    assert "lib/x.so has room for 15 bytes where 32 are needed" in str(caught.value)
    assert "at most 11 characters" in str(caught.value)
    assert state(tree) == before


def test_only_the_named_paths_move(tree: Path) -> None:
    before = state(tree)
    moved = relocate_tree(tree, OLD, "/srv/b", paths=["lib/pkg.pc", "lib/absolute", "lib/gone", "lib/fifo", "lib"])
    assert list(moved) == ["lib/pkg.pc"]
    changed = {path for path, value in state(tree).items() if value != before[path]}
    assert changed == {"lib/pkg.pc", "lib/absolute"}


def test_moving_to_where_it_is_writes_nothing(tree: Path) -> None:
    inode = (tree / "lib/pkg.pc").stat().st_ino
    assert "lib/pkg.pc" in relocate_tree(tree, OLD, OLD)
    assert (tree / "lib/pkg.pc").stat().st_ino == inode


def test_leftovers_name_every_file_and_link(tree: Path) -> None:
    (tree / "share").mkdir()
    (tree / "share/app.jar").write_bytes(b"PK\x03\x04\0" + OLD.encode() + b"/x\0")
    assert leftovers(tree, [OLD, "/opt/envs/ab", "/nowhere"]) == sorted(
        [
            *((path, OLD) for path in find_in_tree(tree, OLD)),
            ("share/app.jar", OLD),
            ("lib/absolute", OLD),
            ("lib/pkg.pc", "/opt/envs/ab"),
            ("lib/sibling", "/opt/envs/ab"),
        ]
    )


def test_large_files_are_searched_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_module, "_LARGE", 1000)
    monkeypatch.setattr(tree_module, "_CHUNK", 64)
    for begin in range(40, 140):
        (tmp_path / f"file-{begin}").write_bytes(b"." * begin + b"\0" + OLD.encode() + b"\0" + b"." * 2000)
    (tmp_path / "nothing").write_bytes(b"\0" * 5000)
    found = find_in_tree(tmp_path, OLD)
    assert {path: o.offsets for path, o in found.items()} == {f"file-{n}": (n + 1,) for n in range(40, 140)}
    relocate_tree(tmp_path, OLD, "/srv/b")
    assert leftovers(tmp_path, [OLD]) == []
    assert (tmp_path / "file-40").read_bytes()[41:54] == b"/srv/b\0\0\0\0\0\0."


def test_a_real_program_and_its_library_move_together(tmp_path: Path, compile_c: Compile) -> None:
    root = tmp_path / "a"
    compile_c("int answer(void) { return 42; }", root / "lib/libanswer.so", "-shared", "-fPIC")
    source = (
        f'extern int answer(void); const char *where = "{root}"; int main(void) {{ return answer() - 42 + !where; }}'
    )
    compile_c(source, root / "bin/tool", "-x", "none", f"-L{root}/lib", "-lanswer", f"-Wl,-rpath,{root}/lib")
    new = tmp_path / "b"
    relocate_tree(root, str(root), str(new))
    root.rename(new)
    assert leftovers(new, [str(root)]) == []
    assert subprocess.run([new / "bin/tool"], check=False).returncode == 0


def test_progress_is_told(tree: Path) -> None:
    told = io.StringIO()
    relocate_tree(tree, OLD, "/srv/b", reporter=JsonLinesReporter(told))
    events = [json.loads(line) for line in told.getvalue().splitlines()]
    done = [(event["step"], event["done"]) for event in events if event["event"] == "done"]
    assert done == [("search", 6), ("relocate", 5)]


@pytest.mark.parametrize("prefix", ["relative", "/", "/a\nb"])
def test_what_is_no_prefix_is_refused_in_one_line(tree: Path, prefix: str) -> None:
    for call in (
        lambda: relocate_tree(tree, OLD, prefix),
        lambda: relocate_tree(tree, prefix, OLD),
        lambda: leftovers(tree, [prefix]),
    ):
        with pytest.raises(RelocationError, match="can't be the prefix"):
            call()


def test_a_missing_tree_is_named(tmp_path: Path) -> None:
    with pytest.raises(RelocationError, match="nowhere"):
        find_in_tree(tmp_path / "nowhere", OLD)


@pytest.mark.parametrize(("offsets", "written"), [((7,), "é"), ((6,), "\\u00e9")])
def test_a_record_that_is_true_says_how_the_prefix_is_spelled(
    tmp_path: Path, offsets: tuple[int, ...], written: str
) -> None:
    (tmp_path / "a.json").write_text('{"p": "/opt/a/x"}')
    recorded = {"a.json": Occurrences("text", offsets, ("json-utf8",))}
    moved = relocate_tree(tmp_path, "/opt/a", "/srv/é", recorded=recorded)
    assert (tmp_path / "a.json").read_text() == f'{{"p": "/srv/{written}/x"}}'
    assert relocate_tree(tmp_path, "/srv/é", "/opt/a", recorded=moved) == find_in_tree(
        tmp_path, "/opt/a", recorded=recorded
    )

"""``bin/conda-unpack`` on a machine without trainenv: executed, sourced, killed, run again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.archives.conftest import BIG_TEXT, BINARY, extract, pack, snapshot, unpack
from trainenv import relocation
from trainenv.archives.activation import TOOLS
from trainenv.channels.host import find_interpreters

SHELLS = [shell for shell in ("bash", "dash", "sh", "zsh", "mksh", "ksh", "busybox") if shutil.which(shell)]
WAYS = ["chat/bin/conda-unpack", "./chat/bin/../bin/conda-unpack", "link", "$PWD/chat/bin/conda-unpack"]


def _shell(name: str, script: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``script`` with the shell called ``name``; nothing of trainenv or the tests' Python is on PATH."""
    command = [shutil.which(name) or name, *(["sh"] if name == "busybox" else []), "-c", script, "main", *arguments]
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=clean, check=False)


def _assert_moved(extracted: Path, *, reference: Path) -> None:
    """All that ``trainenv unpack`` would have written is there, and no more than what does its work here."""
    found = snapshot(extracted)
    for tool in ("bin/conda-unpack", *TOOLS):
        found.pop(tool, None)
    assert found == snapshot(reference)


@pytest.fixture
def extracted(tiny_archive: Path, tmp_path: Path) -> Path:
    """The small prefix, by the plain ``tar`` program."""
    return extract(tiny_archive, tmp_path / "machine 'b' ü&%😀" / "chat")


@pytest.fixture
def reference(tiny_archive: Path, extracted: Path, tmp_path: Path) -> Path:
    """What ``trainenv unpack`` makes for the same prefix."""
    target = tmp_path / "reference"
    unpack(tiny_archive, target, str(extracted))
    return target


def test_executed_it_gives_what_trainenv_unpack_gives(extracted: Path, reference: Path) -> None:
    done = subprocess.run([extracted / "bin/conda-unpack"], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert done.stdout.endswith(f"files now hold {extracted}\n")
    assert done.stderr == ""
    _assert_moved(extracted, reference=reference)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("way", WAYS)
def test_sourced_it_leaves_the_shell_as_it_is(shell: str, way: str, extracted: Path, reference: Path) -> None:
    folder = extracted.parent
    (folder / "link").symlink_to("chat/bin/conda-unpack")
    script = f"""
    me=mine; prefix=mine; python=mine; file=mine; path_before=$PATH
    set -fu
    before=$(set +o)
    . "{way if way.startswith("$") else "./" + way}"
    echo "status $? $me $prefix $python $file $# $1"
    [ "$before" = "$(set +o)" ] && [ "$path_before" = "$PATH" ] && echo same
    """
    done = _shell(shell, script, folder, "--given", "to the caller")
    assert done.stderr == ""
    assert done.stdout.splitlines()[1:] == ["status 0 mine mine mine mine 2 --given", "same"]
    _assert_moved(extracted, reference=reference)


@pytest.mark.parametrize("shell", SHELLS)
def test_sourced_by_a_script_and_failing_it_leaves_the_script_alive(shell: str, extracted: Path) -> None:
    (extracted / "conda-meta/trainenv/relocation.json").unlink()
    done = _shell(shell, ". ./chat/bin/conda-unpack; echo status $?", extracted.parent)
    assert done.stdout == "status 1\n"
    assert done.stderr.count("\n") == 1
    assert "relocation.json" in done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_executed_by_a_shell_it_takes_its_arguments(shell: str, extracted: Path) -> None:
    call = [shutil.which(shell) or shell, *(["sh"] if shell == "busybox" else [])]
    subprocess.run([*call, "bin/conda-unpack", "--prefix", "/opt/other"], cwd=extracted, check=True)
    assert (extracted / "etc/tool.conf").read_text().startswith("root=/opt/other\n")
    assert (extracted / "conda-meta/trainenv/prefix").read_text() == "/opt/other\n"


def test_big_files_are_moved_as_well(small_archive: Path, tmp_path: Path) -> None:
    extracted = extract(small_archive, tmp_path / "chat")
    subprocess.run([extracted / "bin/conda-unpack"], check=True, capture_output=True)
    unpack(small_archive, tmp_path / "reference", str(extracted))
    _assert_moved(extracted, reference=tmp_path / "reference")


def test_found_on_path_and_then_removed(extracted: Path, reference: Path) -> None:
    clean = {"PATH": f"{extracted}/bin:/usr/bin:/bin"}
    subprocess.run(["conda-unpack"], env=clean, cwd="/", check=True, capture_output=True)
    (extracted / "bin/conda-unpack").unlink()
    _assert_moved(extracted, reference=reference)
    assert subprocess.check_output([extracted / "bin/tool"], text=True) == "tool\n"


def test_it_runs_under_every_python(tiny_archive: Path, shared_cache: Path, tmp_path: Path) -> None:
    place = tmp_path / "chat"
    unpack(tiny_archive, place)
    wanted = snapshot(place)
    tried = []
    for interpreter in find_interpreters(shared_cache):
        if interpreter.version.startswith("3.") and interpreter.unusable is None:
            shutil.rmtree(place)
            extract(tiny_archive, place)
            command = [str(interpreter.executable), "-W", "error", "-ISB", str(place / "bin/conda-unpack")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert (interpreter.version, done.returncode, done.stderr) == (interpreter.version, 0, "")
            found = snapshot(place)
            for tool in ("bin/conda-unpack", *TOOLS):
                found.pop(tool)
            assert found == wanted
            tried.append(interpreter.version)
    assert tried


def test_again_it_has_nothing_to_do(extracted: Path) -> None:
    subprocess.run([extracted / "bin/conda-unpack"], check=True, capture_output=True)
    before = {path: path.lstat().st_ino for path in extracted.rglob("*")}
    done = subprocess.run([extracted / "bin/conda-unpack"], check=True, capture_output=True, text=True)
    assert "nothing to do" in done.stdout
    assert {path: path.lstat().st_ino for path in extracted.rglob("*")} == before


def test_moved_again_it_works_again(extracted: Path, tiny_archive: Path, tmp_path: Path) -> None:
    places = [extracted, tmp_path / "x", tmp_path / "a/far/longer/way/to/go/than/before/and/then/some/more/chat"]
    for former, place in zip([extracted, *places], places, strict=False):
        place.parent.mkdir(parents=True, exist_ok=True)
        if former != place:
            former.rename(place)
        done = subprocess.run([place / "bin/conda-unpack"], check=True, capture_output=True, text=True)
        assert "changed" not in done.stdout
        left = relocation.leftovers(place, [relocation.PLACEHOLDER, *(str(p) for p in places if p != place)])
        assert left == []
    assert pack(places[-1], tmp_path / "again").path.read_bytes() == tiny_archive.read_bytes()


def test_a_prefix_without_room_changes_nothing(extracted: Path) -> None:
    before = snapshot(extracted)
    done = subprocess.run(
        [extracted / "bin/conda-unpack", "--prefix", "/" + "x" * 300], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "has room for" in done.stderr
    assert snapshot(extracted) == before


@pytest.mark.parametrize("prefix", ["relative/path", ""])
def test_a_prefix_that_is_none_is_refused(extracted: Path, prefix: str) -> None:
    command = [str(extracted / "bin/conda-unpack"), "--prefix", prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "not an absolute path" in done.stderr


def test_without_a_python_of_its_own_it_says_so_and_takes_another(extracted: Path) -> None:
    (extracted / "bin/python").unlink()
    (extracted.parent / "python3").symlink_to(sys.executable)
    path = {"PATH": f"{extracted.parent}:/usr/bin:/bin"}
    done = subprocess.run([extracted / "bin/conda-unpack"], env=path, capture_output=True, text=True, check=True)
    assert f"no Python starts in {extracted} (there is none)" in done.stderr
    assert (extracted / "etc/tool.conf").read_text().startswith(f"root={extracted}\n")


FAILURES = {
    b"#!/bin/sh\necho '`GLIBC_2.99` not found (required' >&2; echo more >&2; exit 1\n": "`GLIBC_2.99` not found (",
    b"#!/lib/ld-linux-of-another-machine.so\n": "this machine lacks the C library",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_it_says_why_no_python_starts(shell: str, extracted: Path) -> None:
    (extracted / "tools").mkdir()
    for tool in ("readlink", "sh"):
        (extracted / "tools" / tool).symlink_to(f"/bin/{tool}")
    for program, why in FAILURES.items():
        (extracted / "bin/python").unlink()
        (extracted / "bin/python").write_bytes(program)
        (extracted / "bin/python").chmod(0o755)
        (extracted / "bin/python3").unlink(missing_ok=True)
        done = _shell(shell, "PATH=$PWD/tools; . bin/conda-unpack", extracted)
        assert f"neither in {extracted} ({why}" in done.stderr
        assert "more" not in done.stderr


def test_what_was_changed_since_is_left_alone_and_told(extracted: Path) -> None:
    (extracted / "etc/tool.conf").write_text("mine\n")
    done = subprocess.run([extracted / "bin/conda-unpack"], capture_output=True, text=True, check=True)
    assert "1 changed since they were packed and are left as they are, such as etc/tool.conf" in done.stdout
    assert (extracted / "etc/tool.conf").read_text() == "mine\n"


def test_killed_anywhere_the_next_run_finishes(tiny_archive: Path, tmp_path: Path) -> None:
    """Stopped before each of its renames in turn: every state that a kill can leave."""
    killer = (
        "import os, runpy, sys\n"
        "left = int(sys.argv.pop(1))\n"
        "def rename(*arguments, real=os.rename):\n"
        "    global left\n"
        "    left -= 1\n"
        "    if left < 0: os.kill(os.getpid(), 9)\n"
        "    real(*arguments)\n"
        "os.rename = rename\n"
        "sys.argv.pop(0)\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    wanted = None
    renames = 0
    while True:
        place = extract(tiny_archive, tmp_path / "chat")
        program = str(place / "bin/conda-unpack")
        killed = subprocess.run([sys.executable, "-c", killer, str(renames), program], check=False, capture_output=True)
        if killed.returncode == -signal.SIGKILL and renames % 3 == 0:
            # The half-moved folder goes to yet another place before the next run.
            place = place.rename(tmp_path / "elsewhere").rename(tmp_path / "chat")
        subprocess.run([program], check=True, capture_output=True)
        found = {path: entry for path, entry in snapshot(place).items() if not path.endswith(".conda-unpack")}
        wanted = wanted or found
        assert set(snapshot(place)) == set(found)
        shutil.rmtree(place)
        if killed.returncode == 0:
            break
        renames += 1
    assert renames >= 8
    assert found == wanted


def test_interrupted_or_out_of_space_it_says_to_run_it_again(extracted: Path) -> None:
    program = str(extracted / "bin/conda-unpack")
    for how, code, said in (
        ("raise KeyboardInterrupt", 130, "interrupted"),
        ("raise OSError(28, 'No space')", 1, "No space"),
    ):
        failing = (
            "import os, runpy, sys\n"
            "def rename(old, new, real=os.rename):\n"
            f"    if new.endswith('moving'): return real(old, new)\n    {how}\n"
            "os.rename = rename\n"
            "sys.argv.pop(0)\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        )
        done = subprocess.run([sys.executable, "-c", failing, program], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert said in done.stderr
        assert "run it again" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not list(extracted.rglob("*.conda-unpack"))
    subprocess.run([program], check=True, capture_output=True)
    assert relocation.leftovers(extracted, [relocation.PLACEHOLDER]) == []


def test_interrupted_before_it_begins_it_ends_without_a_traceback(extracted: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    program = [sys.executable, str(extracted / "bin/conda-unpack")]
    variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(program, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_killed_at_a_time_and_moved_before_the_next_run(environment_archive: Path, tmp_path: Path) -> None:
    place = extract(environment_archive, tmp_path / "chat")
    process = subprocess.Popen([place / "bin/conda-unpack"], start_new_session=True, stdout=subprocess.DEVNULL)
    while not (place / "conda-meta/trainenv/moving").exists():
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    moved = place.rename(tmp_path / "moved_to_another_place")
    done = subprocess.run([moved / "bin/conda-unpack"], check=True, capture_output=True, text=True)
    assert "changed" not in done.stdout
    assert relocation.leftovers(moved, [str(place), relocation.PLACEHOLDER]) == []
    assert subprocess.check_output([moved / "bin/greet"], text=True) == f"hello from {moved}\n"


def test_console_scripts_work_before_any_fix_up(environment_archive: Path, tmp_path: Path) -> None:
    place = extract(environment_archive, tmp_path / "machine b" / "chat")
    (tmp_path / "link").symlink_to(place / "bin/greet")
    clean = {"PATH": "/usr/bin:/bin"}
    for script in (place / "bin/greet", tmp_path / "link"):
        assert subprocess.check_output([script], env=clean, text=True) == f"hello from {place}\n"


def test_the_real_environment_fixed_by_source(environment_archive: Path, tmp_path: Path) -> None:
    """The guide's own lines, with bash."""
    place = extract(environment_archive, tmp_path / "chat")
    done = _shell("bash", "source ./chat/bin/conda-unpack && rm ./chat/bin/conda-unpack", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    reference = tmp_path / "reference"
    unpack(environment_archive, reference, str(place))
    _assert_moved(place, reference=reference)
    assert subprocess.check_output([place / "bin/teller"], text=True) == f"{place}/share\n"
    assert (place / "bin/greet").read_bytes().startswith(f"#!{place}/bin/".encode())
    assert not (place / BIG_TEXT).exists() and not (place / BINARY).exists()


def test_libraries_that_the_machine_lacks_are_named(environment_archive: Path, tmp_path: Path) -> None:
    place = extract(environment_archive, tmp_path / "chat")
    modules = sorted(place.glob("lib/python3*/lib-dynload/*.so"))
    needed = rb"\0(lib(?:ssl|bz2|ffi|lzma|z))\.so\."
    module, found = next(pair for module in modules if (pair := (module, re.search(needed, module.read_bytes())))[1])
    assert found is not None
    module.write_bytes(module.read_bytes().replace(found[0], b"\0" + found[1] + b".xy."))
    done = subprocess.run([place / "bin/conda-unpack"], capture_output=True, text=True, check=True)
    assert f"this machine lacks {found[1].decode()}.xy." in done.stderr
    assert f"(for {module.name.split('.')[0]}); install what brings" in done.stderr


@pytest.mark.parametrize("name", ["two\nlines", "a:b", os.fsdecode(b"a\xff")])
def test_where_no_environment_can_be_nothing_is_changed(tiny_archive: Path, tmp_path: Path, name: str) -> None:
    extracted = extract(tiny_archive, tmp_path / name)
    before = snapshot(extracted)
    done = subprocess.run([extracted / "bin/conda-unpack"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "can't be a prefix" in done.stderr
    assert snapshot(extracted) == before

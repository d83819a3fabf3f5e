"""``push`` by way of a real OpenSSH server, to machines with and without trainenv."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.archives.shipping.conftest import leftovers
from tests.archives.shipping.sshd import Far, far_side
from tests.conftest import RunCommand, program
from trainenv import Environment, Workspace, relocation
from trainenv.archives.shipping.addresses import parse
from trainenv.archives.shipping.bare import UPLOAD
from trainenv.archives.shipping.shell import Shell
from trainenv.archives.shipping.transport import Interrupted
from trainenv.errors import ArchiveError, EnvironmentExistsError, TrainenvError, TransferError, UsageError

DEBIAN = "/usr/bin:/bin"
CUT = 6_000_000
"""Bytes after which a connection is cut: two thirds of what is sent."""


@pytest.fixture
def tools(far: Far, tmp_path: Path) -> Path:
    """A folder that comes first on the far side's PATH."""
    folder = tmp_path / "tools"
    folder.mkdir()
    far.set(f"{folder}:{DEBIAN}")
    return folder


@pytest.fixture
def there(far: Far, tools: Path) -> Path:
    """trainenv is on the far side's PATH; its workspace there is the default one, whose ``envs`` this is."""
    tool(tools, "trainenv", f'exec {sys.executable} -m trainenv "$@"')
    return far.home / ".local/share/trainenv/envs"


def tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


LIMITED = """
import os, pathlib
left = {cut}
while block := os.read(0, 1 << 16):
    if left > 0:
        os.write(1, block[:left])
        left -= len(block)
    else:
        pathlib.Path(os.environ["HOME"], "held").touch()
"""


def cutting(folder: Path, what: str) -> str:
    """A script that becomes ``what``; the first time only ``CUT`` bytes of its input get through.

    Then ``held`` is in the home folder.
    """
    (folder / "limited.py").write_text(LIMITED.format(cut=CUT))
    limited = f"{sys.executable} {folder}/limited.py"
    return f'if [ ! -e "$HOME/cut" ]; then touch "$HOME/cut"; {limited} | {what}; exit; fi\nexec {what}'


def wait_for(file: Path) -> None:
    until = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def cut_when_held(far: Far) -> None:
    wait_for(far.home / "held")
    far.cut()


RECEIVER = f"{sys.executable} -m trainenv receive"


def cut_tool(tools: Path, has_trainenv: bool) -> None:
    """What receives on the far side gets only the beginning the first time."""
    name, what = ("trainenv", RECEIVER) if has_trainenv else ("cat", '/bin/cat "$@"')
    tool(tools, name, cutting(tools, what))


def beside(folder: Path) -> list[str]:
    """What lies in ``folder`` and is hidden, or is staging."""
    found = [path.name for path in folder.glob(".*") if path.name != ".trainenv"]
    return found + [path.name for path in (folder / ".trainenv" / "staging").glob("*-*")]


def test_without_trainenv_there_it_works_by_what_is_there(
    place: Workspace, environment: Path, far: Far, trainenv: RunCommand
) -> None:
    done = trainenv(place, "push", "-p", str(environment), "far:envs", "--as", "tabular", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    made = far.home / "envs" / "tabular"
    assert (shown["name"], shown["on"], shown["place"]) == ("tabular", "far", str(made))
    assert shown["next_command"] == f"source {made}/bin/activate"
    assert "there is no trainenv on far" in done.stderr
    assert subprocess.check_output([made / "bin/greet"], env={"PATH": DEBIAN}, text=True) == f"hello from {made}\n"
    assert relocation.leftovers(made, [str(environment)]) == []
    assert place.verify(place.environment_at(made), old_prefixes=[str(environment)]).problems == []
    assert [path.name for path in (far.home / "envs").iterdir()] == ["tabular"]


def test_with_trainenv_there_it_is_verified_there_and_the_next_command_works(
    place: Workspace, environment: Path, there: Path, trainenv: RunCommand
) -> None:
    done = trainenv(place, "push", "-p", str(environment), "ssh://far")
    assert done.returncode == 0, done.stderr
    made = there / "chat"
    assert f"chat is in {made} on far" in done.stdout
    assert "Use it there: trainenv run -n chat python" in done.stdout
    assert "check files" in done.stderr
    again = Workspace(there.parent).environment("chat")
    assert again.prefix == made
    assert beside(there) == []


@pytest.mark.parametrize("has_trainenv", [True, False])
@pytest.mark.parametrize("path", ["/~/elsewhere", "absolute"])
def test_any_folder_will_do(
    place: Workspace, chat: Environment, far: Far, there: Path, tools: Path, path: str, has_trainenv: bool
) -> None:
    """Whatever start-up files print there."""
    far.set(f"{tools}:{DEBIAN}", lead="echo trainenv is here; printf 'no line end'")
    folder = far.home / "elsewhere" if path.startswith("/~") else far.home / "some where"
    address = f"ssh://far{path}" if path.startswith("/~") else f"far:{folder}"
    pushed = place.push(chat, address, trainenv=None if has_trainenv else "none")
    assert Path(pushed.place) == folder / "chat"
    assert pushed.with_trainenv is has_trainenv
    assert (folder / "chat/etc/tool.conf").read_text().startswith(f"root={folder}/chat\n")
    assert beside(folder) == []


def test_a_workspace_there_is_used_as_it_is_set_up(place: Workspace, chat: Environment, far: Far, there: Path) -> None:
    (far.home / "ws").mkdir()
    (far.home / "ws/trainenv.toml").write_text('visible_as = "/opt/conda/envs"\n')
    pushed = place.push(chat, "far:ws")
    assert Path(pushed.place) == far.home / "ws/envs/chat"
    assert pushed.next_command == f"trainenv --workspace {far.home}/ws run -n chat python"
    assert (far.home / "ws/envs/chat/etc/tool.conf").read_text().startswith("root=/opt/conda/envs/chat\n")
    with pytest.raises(ArchiveError, match="is a workspace of trainenv, which is not there itself"):
        place.push(chat, "far:ws", name="other", trainenv="none")


def test_a_name_that_is_taken_is_said_before_anything_is_packed(
    place: Workspace, chat: Environment, far: Far, there: Path
) -> None:
    place.push(chat, "ssh://far")
    for trainenv in (None, "none"):
        with pytest.raises((EnvironmentExistsError, ArchiveError), match="exists already"):
            place.push(chat, "ssh://far", trainenv=trainenv)
    with pytest.raises(UsageError, match="nothing can be replaced on far"):
        place.push(chat, "ssh://far", trainenv="none", replace=True)
    assert leftovers(place) == []


@pytest.mark.parametrize("trainenv", [None, "none"])
def test_a_folder_that_will_not_do_is_said_before_anything_is_packed(
    place: Workspace, chat: Environment, there: Path, trainenv: str | None
) -> None:
    with pytest.raises(ArchiveError, match=r"far: /etc/passwd/x can't be written.*Name another folder"):
        place.push(chat, "far:/etc/passwd/x", trainenv=trainenv)
    with pytest.raises(TrainenvError, match="far: no environment can live in"):
        place.push(chat, "far:a$b", trainenv=trainenv)


def test_what_is_replaced_stays_for_a_rollback(place: Workspace, chat: Environment, there: Path) -> None:
    place.push(chat, "ssh://far")
    (chat.prefix / "share/new.txt").write_text(f"{chat.prefix}\n")
    shutil.copy2(chat.prefix / "bin/tool", chat.prefix / "bin/other-name")
    place.push(chat, "ssh://far", replace=True)
    assert (there / "chat/share/new.txt").read_text() == f"{there}/chat\n"
    workspace = Workspace(there.parent)
    workspace.rollback("chat")
    assert not (there / "chat/share/new.txt").exists()


def test_only_what_is_missing_there_is_sent(place: Workspace, chat: Environment, there: Path) -> None:
    assert place.push(chat, "ssh://far").sent > 9_400_000
    (chat.prefix / "lib/new.bin").write_bytes(os.urandom(100_000))
    assert 100_000 < place.push(chat, "ssh://far", name="sibling").sent < 150_000
    assert place.push(chat, "ssh://far", replace=True).sent < 150_000
    (there / "chat/share/big.bin").write_bytes(b"edited")
    assert place.push(chat, "ssh://far", name="third").sent < 150_000
    assert (there / "third/share/big.bin").stat().st_size > 9_000_000


@pytest.mark.parametrize("has_trainenv", [True, False])
def test_a_cut_connection_goes_on_where_it_was(
    place: Workspace, chat: Environment, far: Far, tools: Path, has_trainenv: bool
) -> None:
    cut_tool(tools, has_trainenv)
    cutter = threading.Thread(target=cut_when_held, args=(far,))
    cutter.start()
    pushed = place.push(chat, "far:envs")
    cutter.join()
    assert (far.home / "envs/chat/bin/tool").exists()
    assert pushed.sent > 9_456_611
    assert beside(far.home / "envs") == []
    assert leftovers(place) == []


def test_a_connection_that_hangs_there_is_ended_by_the_next(far: Far) -> None:
    aside = f"{far.home}/.chat.push-x"
    first = Shell(parse("far:"), UPLOAD, (aside,))
    assert first.line("trainenv-push ") == "0"
    first.write(b"x" * 1000)
    wait_for_size(Path(aside, "part"), 1000)
    second = Shell(parse("far:"), UPLOAD, (aside,))
    assert second.line("trainenv-push ") == "1000"
    with pytest.raises((Interrupted, ArchiveError)):
        first.line("trainenv-push ", 10)
    second.write(b"z" * 5)
    second.end_input()
    assert second.line("trainenv-push ", 10) == "1005"
    first.close()
    second.close()


def wait_for_size(file: Path, size: int) -> None:
    until = time.monotonic() + 60
    while not file.exists() or file.stat().st_size < size:
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("has_trainenv", [True, False])
def test_killed_here_nothing_half_is_there_and_the_next_goes_on(
    place: Workspace, chat: Environment, far: Far, tools: Path, has_trainenv: bool
) -> None:
    cut_tool(tools, has_trainenv)
    command = program(place, "push", "-p", str(chat.prefix), "far:envs")
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for(far.home / "held")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (far.home / "envs/chat").exists()
    assert place.push(chat, "far:envs").sent < 9_000_000
    assert beside(far.home / "envs") == []


def test_killed_there_it_is_tried_again(place: Workspace, chat: Environment, far: Far, tools: Path) -> None:
    cut_tool(tools, has_trainenv=True)
    process = threading.Thread(target=kill_receiver, args=(far,))
    process.start()
    assert place.push(chat, "far:envs").place == str(far.home / "envs/chat")
    process.join()
    assert beside(far.home / "envs") == []


def kill_receiver(far: Far) -> None:
    """Kill the ``trainenv receive`` that has ``far``'s home folder, and its connection as the kernel would."""
    wait_for(far.home / "held")
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"receive" in words and f"HOME={far.home}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
    far.cut()


def test_a_machine_that_is_gone_is_said(
    place: Workspace, chat: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for has_trainenv in (True, False):
        with far_side(tmp_path / f"gone{has_trainenv}") as gone:
            monkeypatch.setenv("PATH", f"{tmp_path}/gone{has_trainenv}/bin:/usr/bin:/bin")
            tools = tmp_path / f"tools{has_trainenv}"
            tools.mkdir()
            gone.set(f"{tools}:{DEBIAN}")
            cut_tool(tools, has_trainenv)
            vanishing = threading.Thread(target=vanish_when_held, args=(gone,))
            vanishing.start()
            with pytest.raises(TransferError, match=r"far:envs can't be reached any more.*Run the same again"):
                place.push(chat, "far:envs")
            vanishing.join()
            assert not (gone.home / "envs/chat").exists()


def vanish_when_held(far: Far) -> None:
    wait_for(far.home / "held")
    far.vanish()


Disk = tuple[list[str], Callable[[], list[str]]]


@pytest.fixture
def small_disk(far: Far) -> Iterator[Disk]:
    """The far side's home folder is a disk of its own with room for 6 MB. Gives what enters it, and lists its files."""
    mount = f"mount -t tmpfs -o size=6m tmpfs {far.home}; echo ready; exec sleep 600"
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    enter = ["nsenter", "--user", "--mount", "--preserve-credentials", "--target", str(holder.pid)]
    far.set(DEBIAN, runner=" ".join(enter))

    def listing() -> list[str]:
        command = [*enter, "find", str(far.home), "-type", "f", "-size", "+1k"]
        return subprocess.check_output(command, text=True).splitlines()

    yield enter, listing
    holder.kill()
    holder.wait()


@pytest.mark.parametrize("has_trainenv", [True, False])
def test_a_full_disk_there_is_said_and_nothing_is_left(
    place: Workspace, chat: Environment, far: Far, tools: Path, small_disk: Disk, has_trainenv: bool
) -> None:
    enter, listing = small_disk
    # What this disk says is free is a lie, or nothing would be sent at all.
    tool(tools, "df", 'echo "tmpfs 1 1 99999999 1% /"')
    if has_trainenv:
        lie = (
            "import shutil; usage = shutil.disk_usage('/')._replace(free=1 << 40); shutil.disk_usage = lambda _: usage"
        )
        tool(tools, "trainenv", f'exec {sys.executable} -c "{lie}; from trainenv.cli import main; main()" "$@"')
    far.set(f"{tools}:{DEBIAN}", runner=" ".join(enter))
    with pytest.raises(ArchiveError, match=r"No space left on device|no space left"):
        place.push(chat, "far:envs")
    assert [line for line in listing() if not line.endswith(".sqlite")] == []


def test_too_small_a_disk_is_said_before_anything_is_sent(
    place: Workspace, chat: Environment, far: Far, small_disk: Disk
) -> None:
    with pytest.raises(ArchiveError, match=r"chat can't be used on far: it needs disk space of .*Nothing was sent"):
        place.push(chat, "far:envs")


def test_what_was_spoiled_on_its_way_is_sent_again(place: Workspace, chat: Environment, far: Far, tools: Path) -> None:
    """Some bytes arrive as others."""
    once = 'if [ ! -e "$HOME/cut" ]; then touch "$HOME/cut"; /bin/cat | tr a b; exit; fi'
    tool(tools, "cat", f'{once}\nexec /bin/cat "$@"')
    pushed = place.push(chat, "far:envs")
    assert pushed.sent > 18_000_000
    assert beside(far.home / "envs") == []


@pytest.mark.parametrize("missing", ["zstd", "zstd gzip", "sha256sum"])
def test_what_is_missing_there_is_done_without_or_named(
    place: Workspace, chat: Environment, far: Far, tmp_path: Path, missing: str
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    names = "sh env cat chmod df getconf grep gzip ls mkdir mv readlink rm rmdir sha256sum"
    for name in [*names.split(), "tail", "tar", "touch", "tr", "uname", "wc", "zstd"]:
        if name not in missing.split():
            (few / name).symlink_to(shutil.which(name, path=DEBIAN) or "/nowhere")
    far.set(str(few))
    if missing == "zstd":
        assert place.push(chat, "far:envs").place == str(far.home / "envs/chat")
    else:
        with pytest.raises(ArchiveError, match=f"far has no trainenv and no {missing.rpartition(' ')[2]}"):
            place.push(chat, "far:envs")


def test_busybox_will_do(place: Workspace, chat: Environment, far: Far, tmp_path: Path) -> None:
    (tmp_path / "busybox").mkdir()
    subprocess.run(["/bin/busybox", "--install", "-s", tmp_path / "busybox"], check=True)
    far.set(str(tmp_path / "busybox"), runner=f"/bin/busybox env PATH={tmp_path / 'busybox'}")
    assert place.push(chat, "far:envs").place == str(far.home / "envs/chat")
    assert beside(far.home / "envs") == []


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo trainenv-receive 99 7.0", "trainenv 7.0 there speaks protocol 99, this one 1.*Update the older one"),
        ("echo \"trainenv: error: there is no command 'receive'\" >&2; exit 2", "it knows no `receive`"),
        ('echo trainenv-receive 1 0.1; echo \'error {"message": "no", "hint": "Stop"}\'', "far: no. Stop"),
        ("exit 3", "trainenv on far does not answer: its shell ended with status 3. .*--trainenv none"),
        ("echo trainenv-receive 1 0.1; echo 'get 5 -1'", "its shell ended with status 0"),
    ],
)
def test_trainenvs_that_do_not_understand_each_other(
    place: Workspace, chat: Environment, tools: Path, script: str, words: str
) -> None:
    tool(tools, "trainenv", script)
    with pytest.raises(ArchiveError, match=words):
        place.push(chat, "ssh://far")


def test_a_trainenv_in_another_place_is_found_or_named(
    place: Workspace, chat: Environment, far: Far, tools: Path
) -> None:
    (far.home / ".local/bin").mkdir(parents=True)
    tool(far.home / ".local/bin", "trainenv", f'exec {sys.executable} -m trainenv "$@"')
    assert place.push(chat, "far:envs").with_trainenv
    (far.home / ".local/bin/trainenv").rename(far.home / "my trainenv")
    assert place.push(chat, "far:envs", name="other", trainenv=f"{far.home}/my trainenv").with_trainenv
    with pytest.raises(ArchiveError, match="far:envs has no such trainenv"):
        place.push(chat, "far:envs", name="third", trainenv="/nowhere")


def test_a_machine_that_wants_signatures_takes_nothing_without(
    place: Workspace, chat: Environment, far: Far, there: Path
) -> None:
    (far.home / "ws").mkdir()
    (far.home / "ws/trainenv.toml").write_text("require_signature = true\n")
    with pytest.raises(ArchiveError, match="far: it takes only what is signed"):
        place.push(chat, "far:ws")


def test_as_another_user(place: Workspace, chat: Environment, far: Far) -> None:
    """That is nobody where root runs the tests, else who runs them."""
    user = 65534 if os.geteuid() == 0 else os.geteuid()
    (chat.prefix / "bin/python").unlink()  # It leads to an interpreter that others may not start.
    folder = Path(tempfile.mkdtemp(prefix="trainenv-push-"))
    try:
        if os.geteuid() == 0:
            os.chown(folder, user, user)
            far.set(DEBIAN, lead=f"cd {folder}", runner="setpriv --reuid=65534 --regid=65534 --clear-groups")
        pushed = place.push(chat, f"far:{folder}")
        assert Path(pushed.place).stat().st_uid == user
        with pytest.raises(ArchiveError, match=r"far: /usr/lib/envs can't be written"):
            place.push(chat, "far:/usr/lib/envs")
    finally:
        shutil.rmtree(folder)


def test_two_at_once_and_only_one_environment(place: Workspace, chat: Environment, far: Far, there: Path) -> None:
    for trainenv in ("trainenv", "none"):
        command = program(place, "push", "-p", str(chat.prefix), "far:envs", "--as", trainenv, "--trainenv", trainenv)
        both = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(2)]
        said = [process.communicate(timeout=60)[1] for process in both]
        assert sorted(process.returncode for process in both) == [0, 1], said
        assert (far.home / "envs" / trainenv / "bin/tool").exists()
    assert beside(far.home / "envs") == []

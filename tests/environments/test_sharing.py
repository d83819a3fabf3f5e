"""Two real users of one group, one workspace: what one makes, the other uses, changes and removes."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import trainenv as package
from tests import support

GROUP = 61100
UMASKS = ("022", "077")


@dataclass(frozen=True)
class User:
    """Someone who is in ``GROUP`` and has a umask of his own."""

    uid: int
    umask: str
    base: Path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``command`` as this user."""
        home = self.base / f"home-{self.uid}"
        if not home.is_dir():
            home.mkdir(mode=0o700)
            os.chown(home, self.uid, self.uid)
        done = subprocess.run(
            [*_become(self.uid), "sh", "-c", f'umask {self.umask}; exec "$@"', "sh", *command],
            env={
                "HOME": str(home),
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": os.pathsep.join(_python_path()),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PIP_FIND_LINKS": str(self.base / "wheels"),
                "PIP_NO_INDEX": "1",
                "PIP_CONFIG_FILE": os.devnull,
            },
            cwd=self.base,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check:
            assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done

    def trainenv(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        workspace = str(self.base / "workspace")
        return self.run(_python(), "-m", "trainenv", "--workspace", workspace, *arguments, check=check)


def _become(uid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", f"--groups={GROUP}", "--"]


def _python() -> str:
    """A Python of this version that everybody may start."""
    same = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in (os.path.realpath(sys.executable), f"/usr/bin/{same}", f"/usr/local/bin/{same}"):
        try:
            done = subprocess.run([*_become(61001), "test", "-x", candidate], check=False, cwd="/")
        except FileNotFoundError:
            break
        if done.returncode == 0:
            return candidate
    raise LookupError(f"no {same} on this machine may be started by everybody")


def _python_path() -> Sequence[str]:
    assert package.__file__ is not None
    return [str(Path(package.__file__).parent.parent), sysconfig.get_path("purelib")]


def _free_uids() -> list[int]:
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    return [uid for uid in range(61001, 61100) if uid not in taken][:2]


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A folder that every user reaches, with a workspace that belongs to the group."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        reason = "only root can become two other users, with setpriv of util-linux"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    folder = Path(tempfile.mkdtemp(prefix="trainenv-shared-"))
    folder.chmod(0o755)
    workspace = folder / "workspace"
    workspace.mkdir()
    channel = support.make_channel(folder / "channel")
    support.add_package(channel, "tool", prefix_files={"bin/tool": "#!/bin/sh\necho @PREFIX@\n"})
    support.add_package(channel, "more", files={"share/more.txt": "more\n"})
    support.make_wheel(folder / "wheels", "greeter", scripts={"greet": "greeter:main"}, files={"greeter.py": _GREETER})
    support.make_wheel(folder / "wheels", "extra")
    (folder / "greeter.txt").write_text("greeter\n")
    (folder / "extra.txt").write_text("extra\n")
    (workspace / "trainenv.toml").write_text(f'channels = ["host", "{channel}"]\n')
    os.chown(workspace, 0, GROUP)
    workspace.chmod(0o2775)
    yield folder
    shutil.rmtree(folder)


_GREETER = "import sys\ndef main():\n    print('hello from', sys.prefix)\n"


@pytest.fixture
def users(base: Path, request: pytest.FixtureRequest) -> Iterator[tuple[User, User]]:
    """The one who makes, and the other; afterwards nothing is left but the package cache."""
    first, second = _free_uids()
    yield User(first, request.param, base), User(second, "022", base)
    shutil.rmtree(base / "workspace/envs", ignore_errors=True)


both_umasks = pytest.mark.parametrize("users", UMASKS, indirect=True)


@both_umasks
def test_what_one_made_the_other_uses_changes_and_removes(users: tuple[User, User], base: Path) -> None:
    one, other = users
    one.trainenv("create", "-n", "chat", "python", "tool", "-r", str(base / "greeter.txt"), "-y")
    prefix = base / "workspace/envs/chat"
    assert other.trainenv("run", "-n", "chat", "greet").stdout == f"hello from {prefix}\n"
    assert "chat" in other.trainenv("env", "list").stdout
    other.trainenv("env", "verify", "chat", "--imports")
    other.trainenv("pack", "-n", "chat", "-o", str(base / f"home-{other.uid}/chat-{one.umask}.tar.zst"))
    other.trainenv("install", "-n", "chat", "more", "-r", str(base / "extra.txt"), "-y")
    one.trainenv("env", "verify", "chat", "--imports")
    assert "extra" in one.trainenv("list", "-n", "chat").stdout
    one.trainenv("install", "-n", "chat", "-r", str(base / "greeter.txt"), "-y")
    other.trainenv("env", "clone", "chat", "-n", "copy")
    one.trainenv("env", "rename", "copy", "mine")
    other.trainenv("env", "remove", "mine", "-y")
    other.trainenv("env", "remove", "chat", "-y")
    assert json.loads(one.trainenv("env", "list", "--json").stdout) == []


@both_umasks
def test_everything_is_the_groups(users: tuple[User, User], base: Path) -> None:
    one, other = users
    one.trainenv("create", "-n", "chat", "python", "tool", "-r", str(base / "greeter.txt"), "-y")
    other.trainenv("install", "-n", "chat", "more", "-y")
    closed = []
    for folder, names, files in os.walk(base / "workspace"):
        for name in (*names, *files):
            path = Path(folder, name)
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode) or "/.trainenv/staging" in folder:
                continue
            wanted = 0o2070 if stat.S_ISDIR(status.st_mode) else (status.st_mode & 0o600) >> 3
            if status.st_gid != GROUP or status.st_mode & wanted != wanted:
                closed.append((str(path), oct(status.st_mode), status.st_gid))
    assert [item for item in closed if not item[0].endswith("trainenv.toml")] == []


@both_umasks
def test_both_take_from_one_cache(users: tuple[User, User], base: Path) -> None:
    one, other = users
    one.trainenv("create", "-n", "first", "python", "-r", str(base / "greeter.txt"), "-y")
    other.trainenv("create", "-n", "second", "python", "-r", str(base / "greeter.txt"), "-y")
    envs = base / "workspace/envs"
    file = next(path.relative_to(envs / "first") for path in (envs / "first").glob("lib/python3*/json/decoder.py"))
    assert (envs / "first" / file).samefile(envs / "second" / file)
    (greeter,) = (envs / "second").glob("lib/python3*/site-packages/greeter.py")
    assert greeter.samefile(envs / "first" / greeter.relative_to(envs / "second"))
    other.trainenv("env", "remove", "first", "-y")
    other.trainenv("clean", "--all", "-y")
    one.trainenv("env", "verify", "second")
    one.trainenv("env", "remove", "second", "-y")
    one.trainenv("clean", "--all", "-y")


@both_umasks
def test_one_repairs_what_the_other_made(users: tuple[User, User], base: Path) -> None:
    one, other = users
    one.trainenv("create", "-n", "chat", "python", "tool", "-r", str(base / "greeter.txt"), "-y")
    prefix = base / "workspace/envs/chat"
    (prefix / "bin/tool").unlink()
    (prefix / "bin/greet").chmod(0o664)
    next(prefix.glob("lib/python3*/site-packages/greeter.py")).unlink()
    assert other.trainenv("env", "verify", "chat", check=False).returncode == 1
    other.trainenv("env", "repair", "chat")
    one.trainenv("env", "verify", "chat", "--imports")
    assert one.trainenv("run", "-n", "chat", "greet").stdout == f"hello from {prefix}\n"


@pytest.mark.parametrize("users", ["022"], indirect=True)
def test_one_running_a_command_keeps_the_other_from_changing_it(users: tuple[User, User], base: Path) -> None:
    one, other = users
    one.trainenv("create", "-n", "chat", "tool", "-y")
    command = [*_become(other.uid), _python(), "-m", "trainenv", "--workspace", str(base / "workspace")]
    running = subprocess.Popen(
        [*command, "run", "-n", "chat", "sh", "-c", "echo up; sleep 60"],
        stdout=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(_python_path()), "HOME": "/nonexistent"},
        cwd=base,
    )
    assert running.stdout is not None
    try:
        assert running.stdout.readline() == b"up\n"
        refused = one.trainenv("env", "remove", "chat", "-y", check=False)
        assert refused.returncode == 1
        assert "busy" in refused.stderr
    finally:
        running.kill()
        running.wait()


@pytest.mark.parametrize("users", ["022"], indirect=True)
def test_a_stranger_may_use_but_not_change(users: tuple[User, User], base: Path) -> None:
    one, _ = users
    one.trainenv("create", "-n", "chat", "tool", "-y")
    prefix = base / "workspace/envs/chat"
    run = ["setpriv", "--reuid=61099", "--regid=61099", "--clear-groups", "--", _python(), "-m", "trainenv"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(_python_path()), "HOME": "/nonexistent"}
    run += ["--workspace", str(base / "workspace")]
    used = subprocess.run(
        [*run, "run", "-n", "chat", "tool"], env=environment, cwd=base, capture_output=True, text=True, check=True
    )
    assert used.stdout == f"{prefix}\n"
    refused = subprocess.run(
        [*run, "env", "remove", "chat", "-y"], env=environment, cwd=base, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "Permission denied" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (prefix / "bin/tool").is_file()

"""A PostgreSQL server over the tasks of several machines: the real server, and machines by their host names."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import program
from tests.training.conftest import prepared
from trainenv import DatabaseError, Workspace
from trainenv.training import index, record
from trainenv.training.selection import Selection

PASSWORD = "s3cret/p@ss"
QUOTED = "s3cret%2Fp%40ss"


@dataclass(frozen=True)
class Server:
    """A running server. ``run`` starts and stops it."""

    port: int
    run: Callable[[str], None]

    @property
    def url(self) -> str:
        """The address of a new database."""
        name = f"d{time.monotonic_ns()}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self._address(name)

    def _address(self, database: str) -> str:
        return f"postgresql://trainer:{QUOTED}@127.0.0.1:{self.port}/{database}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Runs as the user that Debian's package made where the tests are root, as which it refuses to run."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="trainenv-postgresql-"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def run(*command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", user=user if os.getuid() == 0 else None)

    try:
        (folder / "password").write_text(PASSWORD)
        if os.getuid() == 0:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        options = ["-U", "trainer", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync", "-E", "UTF8"]
        run(str(programs / "initdb"), "-D", str(folder / "data"), *options)
        settings = f"-c fsync=off -c listen_addresses=127.0.0.1 -p {port} -k {folder}"

        def control(action: str) -> None:
            log = ["-l", str(folder / "log"), "-o", settings] if action == "start" else ["-m", "immediate"]
            run(str(programs / "pg_ctl"), "-D", str(folder / "data"), "-w", *log, action)

        control("start")
        try:
            yield Server(port, control)
        finally:
            control("stop")
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Machine:
    """A workspace on a machine of its own, as far as host name and files go: it can't see what is ``hidden``."""

    name: str
    root: Path
    hidden: Path

    def trainenv(self, *arguments: str, code: int = 0) -> str:
        """Run a command there; what it printed, its errors included."""
        boot = 'hostname "$0"; mount -t tmpfs none "$1"; shift; exec "$@"'
        apart = ["unshare", "-u", "-m", *([] if os.getuid() == 0 else ["-r"]), "sh", "-c", boot, self.name]
        command = [*apart, str(self.hidden), *program(Workspace(self.root), *arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, done.stderr
        assert PASSWORD not in done.stdout + done.stderr and QUOTED not in done.stdout + done.stderr
        return done.stdout + (done.stderr if code else "")

    def tasks(self) -> dict[str, dict[str, Any]]:
        return {task["id"]: task for task in json.loads(self.trainenv("task", "list", "--json"))}


CODE = """\
import os, time
print('epoch=1 loss=0.5', flush=True)
while not os.path.exists(GO):
    time.sleep(0.02)
"""


def machine(tmp_path: Path, name: str, url: str, *, hides: str = "nothing") -> Machine:
    settings = prepared(tmp_path / name)
    (tmp_path / hides).mkdir(exist_ok=True)
    (settings.envs_dir / "small_env" / "conda-meta").mkdir()
    settings.file.write_text(f'database = "{url}"\n')
    folder = settings.methods_dir / "probe"
    folder.mkdir(parents=True)
    (folder / "method.yaml").write_text("conda_env: small_env\nfile: train.py\n")
    (folder / "train.py").write_text(CODE.replace("GO", repr(str(tmp_path / "go"))))
    return Machine(name, tmp_path / name, tmp_path / hides)


@pytest.fixture(autouse=True)
def let_go(tmp_path: Path) -> Iterator[None]:
    """What a failing test leaves running ends afterwards."""
    yield
    (tmp_path / "go").touch()


def until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up_at, "what was waited for never came"
        time.sleep(0.1)


def test_machines_see_each_others_tasks_from_start_to_end(server: Server, tmp_path: Path) -> None:
    url = server.url
    a, b = machine(tmp_path, "machine-a", url), machine(tmp_path, "machine-b", url, hides="machine-a")
    task = json.loads(a.trainenv("train", "probe", "--name", "far", "--detach", "--json"))
    until(lambda: b.tasks().get(task["id"], {}).get("status") == "running")
    assert task["host"] == "machine-a" and "machine-a" in b.trainenv("task", "show", "far")
    for arguments in (["logs", task["id"]], ["metrics", "far"], ["cancel", task["id"][:-1]], ["remove", "far"]):
        said = b.trainenv("task", *arguments, code=1)
        assert f"{a.root / 'tasks' / task['id']} on machine-a" in said
    (tmp_path / "go").touch()
    until(lambda: b.tasks()[task["id"]]["status"] == "done")
    assert b.tasks()[task["id"]]["metrics"] == {"epoch": 1, "loss": 0.5}

    own = json.loads(b.trainenv("train", "probe", "--json"))
    assert set(b.tasks()) == {task["id"], own["id"]}
    assert set(a.tasks()) == {task["id"], own["id"]}, "b's reading has written down its own"
    assert {line.split()[-3] for line in a.trainenv("task", "list").splitlines()[1:]} == {"machine-a", "machine-b"}
    a.trainenv("task", "remove", "far")
    until(lambda: set(b.tasks()) == {own["id"]})

    shutil.rmtree(a.root / "tasks")
    assert set(a.tasks()) == {own["id"]}


def test_a_lost_database_is_made_anew(server: Server, tmp_path: Path) -> None:
    url = server.url
    a, b = machine(tmp_path, "machine-a", url), machine(tmp_path, "machine-b", url)
    (tmp_path / "go").touch()
    made = [json.loads(each.trainenv("train", "probe", "--json"))["id"] for each in (a, b)]
    until(lambda: set(a.tasks()) == set(made))
    with psycopg.connect(url, autocommit=True) as connection:
        for table in ("tasks", "records", "places"):
            connection.execute(f"DROP TABLE trainenv_{table}_1".encode())
    assert set(a.tasks()) == {made[0]}
    assert set(b.tasks()) == set(made)


def test_where_the_server_is_away_tasks_run_and_lists_say_so(server: Server, tmp_path: Path) -> None:
    here = machine(tmp_path, "machine-a", server.url)
    (tmp_path / "go").touch()
    server.run("stop")
    try:
        task = json.loads(here.trainenv("train", "probe", "--json"))
        assert task["status"] == "done"
        assert task["id"] in here.trainenv("task", "show", task["id"])
        said = here.trainenv("task", "list", code=1)
        assert f"127.0.0.1:{server.port}" in said and "TRAINENV_DATABASE=sqlite" in said and said.count("\n") == 1
    finally:
        server.run("start")
    assert set(here.tasks()) == {task["id"]}


def test_no_password_is_said_where_it_is_refused(server: Server, tmp_path: Path) -> None:
    here = machine(tmp_path, "machine-a", server.url)
    here.root.joinpath("trainenv.toml").write_text(
        f'database = "postgresql+psycopg://trainer:wr0ng%40@127.0.0.1:{server.port}/postgres?sslmode=prefer"\n'
    )
    said = here.trainenv("task", "list", code=1)
    assert "authentication failed" in said and "wr0ng" not in said
    assert "wr0ng" not in here.trainenv("doctor", "--json") + repr(Workspace(here.root).settings)
    here.root.joinpath("trainenv.toml").write_text('database = "postgresql://trainer:wr0ng@[::1/x?no=such"\n')
    assert "wr0ng" not in here.trainenv("task", "list", code=1)


def test_many_at_once_fill_an_empty_server(server: Server, tmp_path: Path) -> None:
    url = server.url
    machines = [machine(tmp_path, f"machine-{letter}", url) for letter in "abc"]
    for each in machines:
        for number in range(30):
            folder = each.root / "tasks" / f"20260101-0000{number:02d}-{each.name[-1] * 6}"
            folder.mkdir(parents=True)
            values: dict[str, Any] = dict.fromkeys(("prefix", "working_folder", "method_sha256", "code_sha256"), "")
            values |= {"id": folder.name, "method": "m", "stage": "train", "status": "done", "conda_env": "e"}
            values |= {"command": [], "parameters": {"n": number, "text": "ü\0"}, "environment": {}}
            values |= {"created": "2026-01-01T00:00:00.000Z", "host": each.name}
            record.write(str(folder), {**values, "user": "u", "supervisor": {}, "grace_seconds": 1.0})
    commands = [program(Workspace(each.root), "task", "list", "--json") for each in machines for _ in range(3)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for command in commands]
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    found = index.select(Workspace(machines[0].root).settings, Selection(), whole=True)
    assert len({summary.task().id for summary in found}) == len(found) == 90
    assert Workspace(machines[1].root).tasks(where=["n>=28"])[0].parameters["n"] in (28, 29)


def test_the_error_is_the_apis_own(tmp_path: Path) -> None:
    here = machine(tmp_path, "machine-a", "postgresql://127.0.0.1:9/none")
    with pytest.raises(DatabaseError, match="can't be used"):
        Workspace(here.root).tasks()

"""A workspace with one environment whose interpreter is the tests' own, and methods made on the spot."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainenv import settings as settings_module
from trainenv.settings import Settings
from trainenv.training import processes, record
from trainenv.training.method import Method, load_method
from trainenv.training.run import start
from trainenv.training.task import Task, list_tasks


class Bench:
    """A workspace to start tasks in, and a look at the processes that they are made of."""

    environment = "small_env"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.prefix = settings.prefix_of(self.environment)

    def method(self, code: str, *, yaml: str = "conda_env: small_env\nfile: train.py\n") -> Method:
        """A method called ``probe`` with this code and this ``method.yaml``."""
        folder = self.settings.methods_dir / "probe"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "train.py").write_text(textwrap.dedent(code))
        (folder / "method.yaml").write_text(textwrap.dedent(yaml))
        return load_method(self.settings.methods_dir, "probe")

    def configure(self, toml: str) -> None:
        """Let ``trainenv.toml`` say this."""
        self.settings.file.write_text(toml)
        self.settings = settings_module.load(self.settings.root)

    def wanting(self, resources: str, code: str = "pass", *, grace_seconds: float = 0.5) -> Task:
        """A task of this code that asks for ``resources``, such as ``gpus: 1``."""
        yaml = f"conda_env: small_env\nfile: train.py\nresources: {{{resources}}}\n"
        method = self.method(code, yaml=yaml)
        return start(self.settings, method, {}, prefix=self.prefix, grace_seconds=grace_seconds)

    def start(self, code: str, *, grace_seconds: float = 10.0) -> Task:
        """A task that runs this code."""
        return start(self.settings, self.method(code), {}, prefix=self.prefix, grace_seconds=grace_seconds)

    def start_and_hear(self, code: str, *, grace_seconds: float = 10.0) -> Task:
        """The same, once the code has printed a line."""
        task = self.start(code, grace_seconds=grace_seconds)
        self.until(lambda: "\n" in task.log_file.read_text())
        return task

    def until(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        """Wait for ``condition``; fails if it never comes true."""
        give_up_at = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < give_up_at, "what was waited for never came"
            time.sleep(0.01)

    def active(self) -> list[Task]:
        """The tasks that wait or run."""
        return [task for task in list_tasks(self.settings.tasks_dir) if task.active]

    def supervisor(self, task: Task) -> int:
        pid = task.supervisor["pid"]
        assert isinstance(pid, int)
        return pid

    def code_processes(self, task: Task) -> list[int]:
        """The processes that the task's code consists of."""
        return processes.with_variable(record.TASK_DIR_VARIABLE, str(task.folder))

    def end_everything(self) -> None:
        for task in self.active():
            processes.send(signal.SIGKILL, [self.supervisor(task)])
        for task in list_tasks(self.settings.tasks_dir):
            for pid in self.code_processes(task):
                processes.send(signal.SIGKILL, [pid])


def prepared(root: Path) -> Settings:
    """A workspace in ``root`` with an environment that has the tests' own interpreter."""
    bin_folder = root / "envs" / Bench.environment / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python").symlink_to(os.path.realpath(sys.executable))
    (root / settings_module.FILE_NAME).touch()
    return settings_module.load(root)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """What a failing test leaves running is ended afterwards."""
    made = Bench(prepared(tmp_path / "workspace"))
    yield made
    made.end_everything()

"""The process that a task's code begins with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainenv.environments import activation
from trainenv.training import record

_IMPORTABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "importable")
"""The folder of what the code can import in any environment: ``trainenv_report``, nothing else."""


def start(folder: str, task: dict[str, Any], inherited: list[int]) -> subprocess.Popen[bytes]:
    """Start the code of the task in ``folder``, with its output going straight to the log. Raises ``OSError``.

    It gets a session of its own, the descriptors ``inherited``, and the GPUs and CPUs that the task got.
    """
    prefix = Path(task["prefix"])
    found = activation.environ(prefix, task["conda_env"], os.environ) | task["environment"]
    python_path = [found["PYTHONPATH"]] if found.get("PYTHONPATH") else []
    own: dict[str, str] = {
        "PYTHONUNBUFFERED": "1",
        **task["environment"],
        record.TASK_DIR_VARIABLE: folder,
        "TRAINENV_TASK_ID": task["id"],
        "TRAINENV_OUTPUTS": os.path.join(folder, record.OUTPUTS),
        "TRAINENV_PARAMETERS": os.path.join(folder, record.PARAMETERS),
        "PYTHONPATH": os.pathsep.join([*python_path, _IMPORTABLE]),
    }
    if task["gpus"] or task["resources"]["gpus"] == 0:
        from trainenv.training import gpus

        own |= gpus.visible(task["gpus"])
    argv, variables = activation.launched(prefix, task["conda_env"], task["command"], os.environ, own)
    with open(os.path.join(folder, record.LOG), "ab") as log, _running_on(task["cpus"]):
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=task["working_folder"],
            env=variables,
            start_new_session=True,
            pass_fds=inherited,
        )


@contextmanager
def _running_on(cpus: list[int]) -> Iterator[None]:
    """What is started in the block runs on these CPUs only; on any if there are none, or not on this machine."""
    real = os.sched_getaffinity(0)
    if not cpus or not real.issuperset(cpus):
        yield
        return
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, real)


def keep_to_code(folder: str, task: dict[str, Any]) -> None:
    """Where the method's folder was changed while the task waited, run the copy of what was to run."""
    from trainenv.errors import TaskError
    from trainenv.training import code, passing

    if code.read(Path(task["working_folder"])).sha256 == task["code_sha256"]:
        return
    copy = os.path.join(folder, record.CODE, os.path.basename(task["working_folder"]))
    try:
        code.write(code.unpacked(Path(folder, code.FILE)), Path(copy))
    except TaskError as error:
        raise OSError(str(error)) from None
    words = {task["working_folder"]: copy}
    task.update(command=passing.expanded(task["command"], words), working_folder=copy)

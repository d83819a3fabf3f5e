"""A task from the start of its code to its end, as its supervisor follows it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from typing import Any

from trainenv.sizes import human_size
from trainenv.training import processes, record
from trainenv.training.measurements import Measurements
from trainenv.training.memory import Memory
from trainenv.training.signals import CANCELLING, received

_POLL_SECONDS = 0.1
_REFRESH_SECONDS = 1.0
_LEFT_BEHIND_GRACE_SECONDS = 2.0


class Supervision:
    """A running task: its code, its log so far, and whether someone cancelled it."""

    def __init__(self, folder: str, task: dict[str, Any], code: subprocess.Popen[bytes], signals: int) -> None:
        self._folder = folder
        self._task = task
        self._code = code
        self._signals = signals
        self._measurements = Measurements(folder, task["metric_patterns"])
        self._wait_status: int | None = None
        self._kill_at: float | None = None
        limit = task["resources"]["time"]
        self._ends_at = None if limit is None else time.monotonic() + limit
        self._memory = Memory(task["resources"]["memory"])
        self._exceeded = ""
        self._refreshed = time.monotonic()

    def follow(self) -> None:
        """Follow the code to its end, and end what it left behind."""
        while True:
            self._reap()
            if self._wait_status is not None:
                break
            self._pass_signals_on()
            more = self._measurements.catch_up()
            self._refresh()
            select.select([self._signals], [], [], 0 if more else _POLL_SECONDS)
        grace = min(_LEFT_BEHIND_GRACE_SECONDS, self._task["grace_seconds"])
        processes.end_descendants(self._reap, grace)
        self._task.update(finished=record.now(), **self._ending())

    def conclude(self) -> None:
        """Read the rest of the log, and record how the task ended."""
        self._measurements.finish()
        self._task.update(metrics=self._measurements.last)
        record.write_patiently(self._folder, self._task)

    def _reap(self) -> bool:
        """Collect dead children: the code, and orphans below it that became ours. Returns whether there are more."""
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._code.pid and self._wait_status is None:  # Its number may be another's later.
                self._wait_status = wait_status

    def _pass_signals_on(self) -> None:
        for number in received(self._signals):
            if number in CANCELLING:
                self._ask_to_end(number)
        if self._kill_at is None and self._ends_at is not None and time.monotonic() >= self._ends_at:
            self._exceeded = "time_limit"
            self._ask_to_end(signal.SIGTERM)
        if self._memory.is_exceeded() and not self._exceeded:
            self._exceeded = "out_of_memory"
            self._kill_at = time.monotonic()  # Asking would give it time to take more.
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            processes.send(signal.SIGKILL, processes.descendants(os.getpid()))

    def _ask_to_end(self, number: int) -> None:
        """Send the code a signal, heard also where it was stopped; from the first one on its grace period runs."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._task["grace_seconds"]
        try:
            os.killpg(self._code.pid, number)
            os.killpg(self._code.pid, signal.SIGCONT)
        except ProcessLookupError:
            pass

    def _refresh(self) -> None:
        """Keep the metrics in ``task.json`` about a second behind the code."""
        if self._measurements.last == self._task["metrics"]:
            return
        if time.monotonic() - self._refreshed < _REFRESH_SECONDS:
            return
        self._refreshed = time.monotonic()
        try:
            record.write(self._folder, self._task | {"metrics": self._measurements.last})
        except OSError:
            return
        self._task["metrics"] = dict(self._measurements.last)

    def _missing_outputs(self) -> list[str]:
        """Which of the files that the method promises are not there."""
        import glob

        outputs = glob.escape(os.path.join(self._folder, record.OUTPUTS))
        promised = self._task["promised_outputs"]
        return [pattern for pattern in promised if not glob.glob(os.path.join(outputs, pattern), recursive=True)]

    def _ending(self) -> dict[str, Any]:
        """How the code ended: its own exit code, or the signal that ended it."""
        assert self._wait_status is not None
        code = os.waitstatus_to_exitcode(self._wait_status)
        self._code.returncode = code
        status = "done" if code == 0 else "failed"
        error = reason = None
        if self._exceeded == "time_limit":
            status, reason = "failed", self._exceeded
            error = f"it ran longer than its time limit of {self._task['resources']['time']:g} s"
        elif self._exceeded:
            status, reason = "failed", self._exceeded
            error = f"it took more than its memory limit of {human_size(self._task['resources']['memory'])}"
        elif self._kill_at is None and self._memory.killed(code):
            status, reason = "failed", "out_of_memory"
            error = "the kernel ended it, as the machine had no memory left"
        elif self._kill_at is not None:
            status = reason = "cancelled"
        elif code == 0 and (missing := self._missing_outputs()):
            status, error = "failed", f"it left no {' and no '.join(missing)} in its outputs"
        ending = {"status": status, "reason": reason, "error": error}
        if code >= 0:
            return {**ending, "exit_code": code, "signal": None}
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"SIG{-code}"
        return {**ending, "exit_code": None, "signal": name}

"""Runs one command and prints what it took, as one JSON object.

Usage: python -I -S probe.py end|first-line COMMAND [ARGUMENT]...

A process of its own, because Linux counts the memory of the process that starts a command into the
command's peak: so the starter is as small as a Python can be. Times are of the monotonic clock, in
nanoseconds; ``peak_memory`` is in bytes and that of the largest process below the command. With
``first-line`` the command's output is read, and the time of its first line noted.
"""

import json
import os
import sys
import time


def main(until: str, command: "list[str]") -> None:
    read_end, write_end = os.pipe() if until == "first-line" else (-1, os.open(os.devnull, os.O_WRONLY))
    begun = time.monotonic_ns()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write_end, 1)])
    os.close(write_end)
    line, shown = _first_line(read_end) if until == "first-line" else ("", None)
    _, status, usage = os.wait4(pid, 0)
    ended = time.monotonic_ns()
    taken = {
        "begun": begun,
        "first_line": line,
        "first_line_shown": shown,
        "ended": ended,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_memory": usage.ru_maxrss * 1024,
        "exit_code": os.waitstatus_to_exitcode(status),
    }
    print(json.dumps(taken))


def _first_line(descriptor: int) -> "tuple[str, int | None]":
    """The first line that comes out of ``descriptor`` and when; then everything else, to its end."""
    begin, shown = b"", None
    while block := os.read(descriptor, 1 << 16):
        if shown is None:
            begin += block
            if b"\n" in begin:
                shown = time.monotonic_ns()
    return begin.partition(b"\n")[0].decode(errors="replace"), shown


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

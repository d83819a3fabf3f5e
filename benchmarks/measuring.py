"""What is measured and how: contenders at the same work, in interleaved rounds."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_PROBE = Path(__file__).with_name("probe.py")


class BenchmarkError(Exception):
    """Something that is to be measured does not work, so there is nothing to compare."""


class Moment(Enum):
    """When the clock stops."""

    END = "the process has ended"
    LINE_SHOWN = "the first line of output is there"
    LINE_RUN = "the line of code that writes the first line runs (it writes its own monotonic time)"


class Comparison(Enum):
    """How the wall times of a case are set against each other, round by round."""

    RATIO = "trainenv's (the first contender's) divided by each peer's"
    DIFFERENCE = "each one's minus that of the bare work (the last contender)"


@dataclass(frozen=True)
class Sample:
    """One run of one command: seconds of wall and CPU time, bytes of memory and of what it made."""

    seconds: float
    cpu_seconds: float
    peak_memory: int
    output_size: int | None = None


def _nothing() -> None: ...


@dataclass(frozen=True)
class Contender:
    """One way to do the work of a case.

    ``prepare`` runs before every run and ``check`` after the first one, both outside the timed
    part; ``check`` raises ``BenchmarkError`` if the work was not done. ``output`` is the file whose
    size counts.
    """

    name: str
    command: Sequence[str]
    until: Moment = Moment.END
    prepare: Callable[[], None] = _nothing
    check: Callable[[], None] = _nothing
    output: Path | None = None


@dataclass(frozen=True)
class Case:
    """One kind of work. The first contender is trainenv; ``missing`` are peers that are not on this machine."""

    name: str
    title: str
    contenders: Sequence[Contender]
    rounds: int
    comparison: Comparison
    missing: Sequence[str] = ()
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """The samples of a case by contender, one a round.

    ``cores_used_by_others`` is how many cores everything else on the machine kept busy meanwhile, on
    average. Where that is not near 0, trust CPU times, and wall times hardly.
    """

    case: Case
    samples: Mapping[str, Sequence[Sample]]
    cores_used_by_others: float


def measure(contender: Contender, variables: Mapping[str, str]) -> Sample:
    """Run ``contender`` once with the environment variables ``variables``. Raises ``BenchmarkError``."""
    until = "end" if contender.until is Moment.END else "first-line"
    probe = [sys.executable, "-I", "-S", os.fspath(_PROBE), until, *contender.command]
    ran = subprocess.run(probe, env=dict(variables), capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise BenchmarkError(f"{contender.name}: {ran.stderr.strip()}")
    taken = json.loads(ran.stdout)
    if taken["exit_code"] != 0:
        raise BenchmarkError(f"{contender.name} ended with {taken['exit_code']}: {ran.stderr.strip()[-2000:]}")
    if contender.until is Moment.END:
        stopped = taken["ended"]
    elif contender.until is Moment.LINE_SHOWN:
        stopped = taken["first_line_shown"]
    else:
        stopped = int(taken["first_line"])
    return Sample(
        seconds=(stopped - taken["begun"]) / 1e9,
        cpu_seconds=taken["cpu_seconds"],
        peak_memory=taken["peak_memory"],
        output_size=contender.output.stat().st_size if contender.output else None,
    )


def measure_case(case: Case, variables: Mapping[str, str], rounds: int | None, tell: Callable[[str], None]) -> Measured:
    """All rounds of ``case``: A B C, B C A, C A B, ... after one that warms the caches and does not count.

    ``rounds`` replaces the case's own number; ``tell`` gets a line after each run.
    """
    rounds = rounds or case.rounds
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in case.contenders}
    begun, others_begun = time.monotonic(), _cpu_seconds_of_others()
    for number in range(rounds + 1):
        shift = number % len(case.contenders)
        for contender in (*case.contenders[shift:], *case.contenders[:shift]):
            contender.prepare()
            sample = measure(contender, variables)
            if number == 0:
                contender.check()
            else:
                samples[contender.name].append(sample)
            turn = f"round {number}/{rounds}" if number else "warm-up"
            tell(f"{case.name}, {turn}: {contender.name} {sample.seconds:.3f} s")
    others = (_cpu_seconds_of_others() - others_begun) / (time.monotonic() - begun)
    return Measured(case, samples, max(others, 0.0))


def _cpu_seconds_of_others() -> float:
    """CPU time since the machine's start of all but this process and the children it has waited for."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    busy = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return busy - sum(usage.ru_utime + usage.ru_stime for usage in used)

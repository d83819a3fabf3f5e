"""What one run of the benchmark found: the numbers, what they belong to, and what is worked out from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from benchmarks.machine import Machine
from benchmarks.measuring import Comparison, Measured


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, and the least and the most of them."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        return Spread(median(values), min(values), max(values))


@dataclass(frozen=True)
class EnvironmentMeasured:
    """The environment that was started, packed and unpacked; ``size`` in bytes, ``files`` without folders."""

    requirements: Sequence[str]
    python: str
    packages: int
    files: int
    size: int

    def sentence(self) -> str:
        return (
            f"Python {self.python} with {', '.join(self.requirements)}: {self.packages} packages, "
            f"{self.files:,} files, {self.size / 1e6:,.0f} MB"
        )


@dataclass(frozen=True)
class Results:
    """All that one run measured.

    ``date`` is ISO 8601 in UTC, ``load`` the load average when it began, ``memory_floor`` the peak memory
    in bytes that is measured for a command that does nothing: that of what starts it.
    """

    date: str
    load: float
    memory_floor: int
    machine: Machine
    environment: EnvironmentMeasured
    cases: Sequence[Measured]

    def to_json(self) -> dict[str, object]:
        """Everything, every single sample included: seconds and bytes."""
        return {
            "date": self.date,
            "load_average_at_start": self.load,
            "memory_floor": self.memory_floor,
            "machine": self.machine.to_json(),
            "environment": asdict(self.environment),
            "cases": [_case_json(measured) for measured in self.cases],
        }


def compared(measured: Measured, contender: str) -> Spread | None:
    """The case's comparison for ``contender``, a ratio or seconds; ``None`` for what the others are set against."""
    ratio = measured.case.comparison is Comparison.RATIO
    reference = measured.case.contenders[0 if ratio else -1].name
    if contender == reference:
        return None
    pairs = list(zip(measured.samples[contender], measured.samples[reference], strict=True))
    if ratio:
        return Spread.of([trainenv.seconds / its.seconds for its, trainenv in pairs])
    return Spread.of([its.seconds - bare.seconds for its, bare in pairs])


def _case_json(measured: Measured) -> dict[str, object]:
    return {
        "name": measured.case.name,
        "title": measured.case.title,
        "note": measured.case.note,
        "cores_used_by_others": measured.cores_used_by_others,
        "missing": list(measured.case.missing),
        "contenders": [
            {
                "name": contender.name,
                "clock_stops_when": contender.until.value,
                "samples": [asdict(sample) for sample in measured.samples[contender.name]],
            }
            for contender in measured.case.contenders
        ],
    }


def rounds_of(measured: Measured) -> int:
    """How many rounds were measured, without the one that warmed the caches."""
    return len(next(iter(measured.samples.values())))

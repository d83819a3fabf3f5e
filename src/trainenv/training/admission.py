"""Who may start next: first come, first served, worked out from what everybody in line wants and has.

Nothing here touches the machine: what each one wants names what there is for it. In the order of
arrival, whoever finds all that he wants gets it. Who does not is waited for: what he wants is put
aside for him, so nobody behind can overtake him to it, while those who want other things go on. One
who only waits for a limit leaves GPUs, CPUs and memory to those behind, as he could not use them yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainenv.sizes import human_size


@dataclass(frozen=True)
class Limit:
    """At most ``at_once`` tasks count against ``key`` at a time; ``name`` is what people call it."""

    key: str
    name: str
    at_once: int


@dataclass(frozen=True)
class Need:
    """What a task wants, and of what: sizes are bytes.

    ``all_gpus`` are the ids of the GPUs that it may get, with the memory of each (None: unknown);
    ``all_cpus`` the numbers of the CPUs. With ``gpu_memory`` it shares each of its GPUs with others that
    say how much they need; without, it has them alone.
    """

    gpus: int = 0
    gpu_memory: int | None = None
    cpus: int = 0
    memory: int = 0
    limits: tuple[Limit, ...] = ()
    all_gpus: Mapping[str, int | None] = field(default_factory=dict)
    all_cpus: tuple[int, ...] = ()
    all_memory: int = 0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Need:
        return cls(
            **{
                **values,
                "limits": tuple(Limit(**each) for each in values["limits"]),
                "all_cpus": tuple(values["all_cpus"]),
            }
        )


@dataclass(frozen=True)
class Grant:
    """Which GPUs and CPUs a task got."""

    gpus: tuple[str, ...] = ()
    cpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class Ticket:
    """A place in line: tasks with lower numbers came first. Without a grant its task still waits."""

    number: int
    task: str
    need: Need
    grant: Grant | None = None


@dataclass(frozen=True)
class Standing:
    """What a waiting task waits for, in words, and how many that want the same came before it."""

    waits_for: str
    ahead: int

    def __str__(self) -> str:
        return f"waiting for {self.waits_for}" + (f", {self.ahead} ahead" if self.ahead else "")


def admitted(line: Iterable[Ticket], *, without_gpus: Mapping[int, set[str]] | None = None) -> dict[int, Grant]:
    """What each of those who may start now gets, by ticket number.

    ``without_gpus`` names GPUs that are not to be given to a ticket, as something else uses them.
    """
    found = {}
    for ticket, grant, _ in _served(line, without_gpus or {}):
        if ticket.grant is None and grant is not None:
            found[ticket.number] = grant
    return found


def standings(line: Iterable[Ticket]) -> dict[int, Standing]:
    """How each of those who wait stands, by ticket number."""
    found = {}
    ahead: Counter[str] = Counter()
    for ticket, _, missing in _served(line, {}):
        if ticket.grant is None:
            # Who misses nothing is about to start, or something outside of the queue uses the GPUs.
            waits_for = list(missing.values()) or [_gpus(ticket.need) if ticket.need.gpus else "its turn"]
            before = max((ahead[kind] for kind in missing), default=0)
            found[ticket.number] = Standing(" and ".join(waits_for), before)
            ahead.update(_wanted(ticket.need))
    return found


def _served(
    line: Iterable[Ticket], without_gpus: Mapping[int, set[str]]
) -> list[tuple[Ticket, Grant | None, dict[str, str]]]:
    """Each ticket in order, with what it has or gets, and by kind what is missing for it, in words."""
    tickets = sorted(line, key=lambda ticket: ticket.number)
    taken = _Taken()
    for ticket in tickets:
        if ticket.grant is not None:
            taken.add(ticket.need, ticket.grant)
    served = []
    for ticket in tickets:
        grant = ticket.grant
        missing: dict[str, str] = {}
        if grant is None:
            grant, missing = taken.fit(ticket.need, without_gpus.get(ticket.number, set()))
            if grant is None:
                taken.put_aside(ticket.need, missing)
            else:
                taken.add(ticket.need, grant)
        served.append((ticket, grant, missing))
    return served


class _Taken:
    """What is taken, or put aside for those who came first."""

    def __init__(self) -> None:
        self._whole_gpus: set[str] = set()
        self._gpu_memory: Counter[str] = Counter()
        self._cpus: set[int] = set()
        self._memory = 0
        self._limits: Counter[str] = Counter()

    def add(self, need: Need, grant: Grant) -> None:
        for gpu in grant.gpus:
            if _shares(need, gpu):
                self._gpu_memory[gpu] += need.gpu_memory or 0
            else:
                self._whole_gpus.add(gpu)
        self._cpus.update(grant.cpus)
        self._memory += need.memory
        self._limits.update(limit.key for limit in need.limits)

    def fit(self, need: Need, without_gpus: set[str]) -> tuple[Grant | None, dict[str, str]]:
        """What ``need`` gets of what is left, or None and what is missing."""
        missing = {
            limit.key: f"{limit.name} ({limit.at_once} at once)"
            for limit in need.limits
            if self._limits[limit.key] >= limit.at_once
        }
        gpus = self._free_gpus(need, without_gpus)
        if len(gpus) < need.gpus:
            missing["gpus"] = _gpus(need)
        cpus = self._free_cpus(need)
        if len(cpus) < need.cpus:
            missing["cpus"] = counted(need.cpus, "CPU")
        if need.memory and self._memory + need.memory > need.all_memory:
            missing["memory"] = f"{human_size(need.memory)} of memory"
        if missing:
            return None, missing
        return Grant(tuple(sorted(gpus[: need.gpus], key=list(need.all_gpus).index)), tuple(cpus[: need.cpus])), {}

    def put_aside(self, need: Need, missing: Mapping[str, str]) -> None:
        """Keep for ``need`` what it wants of what is left."""
        self._limits.update(limit.key for limit in need.limits)
        if any(limit.key in missing for limit in need.limits):
            return
        if "gpus" in missing:
            self._whole_gpus.update(need.all_gpus)
        else:
            self._whole_gpus.update(self._free_gpus(need, set())[: need.gpus])
        self._cpus.update(self._free_cpus(need)[: need.cpus])
        self._memory += need.memory

    def _free_gpus(self, need: Need, without: set[str]) -> list[str]:
        """Those that ``need`` could get; where it shares, the fullest first, so that whole ones stay free."""
        if not need.gpus:
            return []
        left = [gpu for gpu in need.all_gpus if gpu not in self._whole_gpus and gpu not in without]
        if need.gpu_memory is None:
            return [gpu for gpu in left if not self._gpu_memory[gpu]]
        room = {gpu: (need.all_gpus[gpu] or need.gpu_memory) - self._gpu_memory[gpu] for gpu in left}
        return sorted((gpu for gpu in left if room[gpu] >= need.gpu_memory), key=room.__getitem__)

    def _free_cpus(self, need: Need) -> list[int]:
        return [cpu for cpu in need.all_cpus if cpu not in self._cpus] if need.cpus else []


def _shares(need: Need, gpu: str) -> bool:
    """Whether ``need`` leaves the rest of ``gpu`` to others: not where nobody knows how much that is."""
    return need.gpu_memory is not None and need.all_gpus.get(gpu) is not None


def _wanted(need: Need) -> list[str]:
    kinds = [kind for kind in ("gpus", "cpus", "memory") if getattr(need, kind)]
    return [*kinds, *(limit.key for limit in need.limits)]


def _gpus(need: Need) -> str:
    words = counted(need.gpus, "GPU")
    return words if need.gpu_memory is None else f"{words} with {human_size(need.gpu_memory)}"


def counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"

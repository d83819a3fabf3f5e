"""What a task has to wait for: what its method asks for, beside what this machine and the settings have."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from trainenv.errors import TaskError
from trainenv.settings import Settings
from trainenv.sizes import human_size
from trainenv.training.admission import Limit, Need, counted
from trainenv.training.resources import Resources

_CGROUPS = Path("/sys/fs/cgroup")


def need_of(
    settings: Settings, resources: Resources, *, method: Path, prefix: Path, variables: Mapping[str, str]
) -> Need | None:
    """What a task of the method in folder ``method`` waits for; None if it may start at once.

    ``variables`` are those that the task starts with: of the GPUs it gets only what
    ``CUDA_VISIBLE_DEVICES`` lets it see. Raises ``TaskError`` if the machine never has what is asked.
    """
    limits = _limits(settings, method, prefix)
    asked = resources.gpus or resources.cpus or resources.memory
    if not asked and not limits:
        return None
    need = Need(
        gpus=resources.gpus or 0,
        gpu_memory=resources.gpu_memory,
        cpus=resources.cpus or 0,
        memory=resources.memory or 0,
        limits=limits,
        all_gpus=_gpus(settings, variables) if resources.gpus else {},
        all_cpus=_cpus(settings) if resources.cpus else (),
        all_memory=_memory(settings) if resources.memory else 0,
    )
    _check(settings, need)
    return need


def real_cpus() -> set[int]:
    """The CPUs that this process may run on."""
    return os.sched_getaffinity(0)


def _limits(settings: Settings, method: Path, prefix: Path) -> tuple[Limit, ...]:
    found = []
    if (at_once := settings.limits.tasks) is not None:
        found.append(Limit(f"tasks {settings.root}", "its turn among the tasks here", at_once))
    if (at_once := settings.limits.environments.get(prefix.name)) is not None:
        found.append(Limit(f"environment {prefix}", f"its turn in environment {prefix.name}", at_once))
    if (at_once := settings.limits.methods.get(method.name)) is not None:
        found.append(Limit(f"method {method}", f"its turn among tasks of {method.name}", at_once))
    return tuple(found)


def _gpus(settings: Settings, variables: Mapping[str, str]) -> dict[str, int | None]:
    from trainenv.training import gpus

    return gpus.found(settings.gpus, variables)


def _cpus(settings: Settings) -> tuple[int, ...]:
    if settings.cpus is not None:
        real = sorted(real_cpus())
        return tuple(real[: settings.cpus]) if settings.cpus <= len(real) else tuple(range(settings.cpus))
    real = sorted(real_cpus())
    return tuple(real[: max(1, min(len(real), int(_quota() or len(real))))])


def _quota() -> float | None:
    """How many CPUs' time the container that this process is in may use; None without such a limit."""
    version_2 = _content("cpu.max")
    words = version_2.split() or [_content("cpu/cpu.cfs_quota_us"), _content("cpu/cpu.cfs_period_us")]
    try:
        quota = float(words[0]) / float(words[1])
    except (ValueError, ZeroDivisionError):
        return None
    return quota if quota > 0 else None


def _memory(settings: Settings) -> int:
    if settings.memory is not None:
        return settings.memory
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [_content(name) for name in ("memory.max", "memory/memory.limit_in_bytes")]
    return min([whole, *(int(limit) for limit in limits if limit.isdigit())])


def _content(name: str) -> str:
    try:
        return (_CGROUPS / name).read_text().strip()
    except OSError:
        return ""


def _check(settings: Settings, need: Need) -> None:
    """Refuse what would wait for ever."""

    def refuse(asked: str, there_is: str) -> NoReturn:
        hint = f"Settings such as 'gpus = 4' in {settings.file} say what tasks may share"
        raise TaskError(f"this task asks for {asked}", cause=there_is, hint=hint)

    if need.gpus > len(need.all_gpus):
        refuse(counted(need.gpus, "GPU"), _only(len(need.all_gpus)))
    if need.gpu_memory is not None:
        large = [size for size in need.all_gpus.values() if size is None or size >= need.gpu_memory]
        if need.gpus > len(large):
            refuse(f"{counted(need.gpus, 'GPU')} with {human_size(need.gpu_memory)}", f"{_only(len(large))} so large")
    if need.cpus > len(need.all_cpus):
        refuse(counted(need.cpus, "CPU"), _only(len(need.all_cpus)))
    if need.memory > need.all_memory:
        refuse(f"{human_size(need.memory)} of memory", f"there are only {human_size(need.all_memory)}")


def _only(count: int) -> str:
    return f"there is only {count}" if count == 1 else f"there are only {count}" if count else "there are none"

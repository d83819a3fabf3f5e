"""The GPUs of this machine, as its driver knows them through NVML.

Only tasks that ask for GPUs come here. Ids are those of ``CUDA_VISIBLE_DEVICES``: the numbers that
NVML and ``nvidia-smi`` use, which are CUDA's own with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from trainenv.errors import TaskError

_VISIBLE = "CUDA_VISIBLE_DEVICES"

_FREE_SHARE = 0.9
"""A GPU of which something else has taken more than the rest of this share is not free: desktops take a little."""


def found(setting: int | Sequence[str] | None, variables: Mapping[str, str]) -> dict[str, int | None]:
    """The ids of the GPUs that tasks may use, with the memory of each in bytes (None: unknown).

    ``setting`` is ``gpus`` of ``trainenv.toml``: so many, whatever the driver says, or those with these
    ids. Of them only those in ``CUDA_VISIBLE_DEVICES`` of ``variables`` count, where it is set. Raises
    ``TaskError`` where no driver can be asked.
    """
    allowed = _visible(variables)
    if isinstance(setting, int):
        counted = [str(number) for number in range(setting)]
        return {gpu: None for gpu in (counted if allowed is None else allowed) if gpu in counted}
    memory, ids = _asked()
    for chosen in (allowed, setting):
        if chosen is not None:
            numbers = [_number(gpu, ids) for gpu in chosen]
            memory = {gpu: memory.get(gpu) for gpu in numbers if gpu in memory or gpu.startswith("MIG-")}
    return memory


def visible(ids: Sequence[str]) -> dict[str, str]:
    """The variables with which a process sees just these GPUs, numbered from 0."""
    return {_VISIBLE: ",".join(ids), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def in_other_use(ids: Iterable[str], need: int | None) -> set[str]:
    """Those of the GPUs ``ids`` that have less than ``need`` bytes free, or where it is None are in use.

    A GPU that can't be asked counts as free.
    """
    nvml = _nvml()
    busy: set[str] = set()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return busy
    try:
        for gpu in ids:
            try:
                memory = nvml.nvmlDeviceGetMemoryInfo(_handle(nvml, gpu))
            except nvml.NVMLError:
                continue
            if memory.free < (memory.total * _FREE_SHARE if need is None else need):
                busy.add(gpu)
    finally:
        nvml.nvmlShutdown()
    return busy


def _visible(variables: Mapping[str, str]) -> list[str] | None:
    """The entries of ``CUDA_VISIBLE_DEVICES``; CUDA reads it up to the first that is no device."""
    text = variables.get(_VISIBLE)
    if text is None:
        return None
    entries = [entry.strip() for entry in text.split(",")]
    return list(dict.fromkeys(takewhile(re.compile(r"\d+\Z|GPU-|MIG-").match, entries)))


def _number(gpu: str, numbers: Mapping[str, str]) -> str:
    """The number of the GPU that is named by its number, its UUID or the beginning of one."""
    return next((number for uuid, number in numbers.items() if gpu and uuid.startswith(gpu)), gpu)


def _asked() -> tuple[dict[str, int | None], dict[str, str]]:
    """The memory of each GPU by its number, and the numbers by UUID."""
    nvml = _nvml()
    hint = "'gpus = 4' in trainenv.toml counts GPUs without asking the driver"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise TaskError("this machine has no GPU that can be used", cause=f"NVML: {error}", hint=hint) from None
    try:
        memory: dict[str, int | None] = {}
        numbers = {}
        for number in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
            memory[str(number)] = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
            numbers[str(nvml.nvmlDeviceGetUUID(handle))] = str(number)
        return memory, numbers
    except nvml.NVMLError as error:
        raise TaskError("the GPUs of this machine can't be listed", cause=f"NVML: {error}", hint=hint) from None
    finally:
        nvml.nvmlShutdown()


def _handle(nvml: Any, gpu: str) -> Any:
    return nvml.nvmlDeviceGetHandleByIndex(int(gpu)) if gpu.isdigit() else nvml.nvmlDeviceGetHandleByUUID(gpu)


def _nvml() -> Any:
    import pynvml

    return pynvml

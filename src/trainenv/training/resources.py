"""What a task takes of its machine, as ``resources`` in ``method.yaml`` says it.

Standard library only and light: it is on the way of every task's start.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Resources:
    """What a task takes while it runs; None where its method says nothing.

    ``gpus`` and ``cpus`` are counts, and 0 GPUs means that it must see none. ``gpu_memory`` is what it
    needs of each of its GPUs, in bytes: it shares them with others then, else it has them alone.
    ``memory`` is in bytes and a limit, ``time`` in seconds and one as well.
    """

    gpus: int | None = None
    gpu_memory: int | None = None
    cpus: int | None = None
    memory: int | None = None
    time: float | None = None

    def to_json(self) -> dict[str, int | float | None]:
        return asdict(self)

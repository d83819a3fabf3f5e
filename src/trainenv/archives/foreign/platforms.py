"""conda's names of platforms, in the words of ``platform.machine()``."""

from __future__ import annotations


def machine_of(platform: str) -> str | None:
    """The machine that a conda platform stands for: ``"x86_64"`` for ``linux-64``, ``None`` for ``noarch``.

    That of another system is told apart: ``"osx on arm64"``.
    """
    system, _, machine = platform.partition("-")
    if not machine:
        return None
    machine = {"64": "x86_64", "32": "i686"}.get(machine, machine)
    return machine if system == "linux" else f"{system} on {machine}"

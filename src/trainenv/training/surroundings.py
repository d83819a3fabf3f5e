"""What a task runs in, for its record: the environment's packages and lock, and the machine.

Standard library only: the start of a task comes through here. What an environment holds is worked out
when the first task runs in it after a change; later ones find it in the store of kept files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainenv.environments import fingerprint
from trainenv.environments.records import Package
from trainenv.errors import VerificationError
from trainenv.training import kept

PACKAGES = "packages.json"
LOCK = "pixi.lock"

_CPUINFO_BYTES = 4096


@dataclass(frozen=True)
class Surroundings:
    """``files`` are kept files by the names under which a task's folder has them: its packages and its lock."""

    manifest_sha256: str | None
    lock_sha256: str | None
    files: dict[str, Path]


def of_environment(tasks_dir: Path, prefix: Path) -> Surroundings:
    """The environment at ``prefix`` as it is now. Raises ``OSError`` where nothing can be kept in ``tasks_dir``."""
    if not (prefix / "conda-meta").is_dir():
        return Surroundings(None, None, {})
    state = f"state-{fingerprint.mark_of(prefix)}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        return _kept(tasks_dir, json.loads(kept.path_of(tasks_dir, state).read_bytes()))
    try:
        found = fingerprint.fingerprint(prefix)
    except VerificationError:
        return Surroundings(None, None, {})
    from trainenv.environments.current_lock import current_lock

    lock = current_lock(prefix, found.packages)
    content = json.dumps([package.to_json() for package in found.packages], indent=1).encode() + b"\n"
    known = {
        "manifest_sha256": found.manifest_sha256,
        "packages": hashlib.sha256(content).hexdigest(),
        "lock": None if lock is None else hashlib.sha256(lock).hexdigest(),
    }
    kept.keep(tasks_dir, _packages_name(known), lambda: content)
    if lock is not None:
        kept.keep(tasks_dir, _lock_name(known), lambda: lock)
    kept.keep(tasks_dir, state, lambda: json.dumps(known).encode())
    return _kept(tasks_dir, known)


def _kept(tasks_dir: Path, known: dict[str, Any]) -> Surroundings:
    """The kept files that ``known`` names. Raises ``FileNotFoundError`` if one is gone."""
    names = {PACKAGES: _packages_name(known)} | ({LOCK: _lock_name(known)} if known["lock"] else {})
    files = {name: kept.path_of(tasks_dir, there) for name, there in names.items()}
    for file in files.values():
        kept.claim(file)
    return Surroundings(known["manifest_sha256"], known["lock"], files)


def _packages_name(known: dict[str, Any]) -> str:
    return f"packages-{known['packages']}.json"


def _lock_name(known: dict[str, Any]) -> str:
    return f"lock-{known['lock']}.yml"


def packages_in(folder: Path) -> list[Package] | None:
    """The packages that the task in ``folder`` ran with, by name; None where they are not recorded."""
    try:
        return [Package(**each) for each in json.loads((folder / PACKAGES).read_bytes())]
    except (OSError, ValueError, TypeError):
        return None


def of_machine() -> dict[str, Any]:
    """What this machine is: its system, processors, memory in bytes, and GPUs by the driver's word.

    ``cpus`` are those that this process may use.
    """
    system = os.uname()
    return {
        "system": _system_name(),
        "kernel": system.release,
        "machine": system.machine,
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": _gpus(),
        "gpu_driver": _text("/sys/module/nvidia/version"),
    }


def in_words(machine: dict[str, Any]) -> str:
    """``of_machine`` as a line for people."""
    parts = [machine.get("system"), machine.get("cpu")]
    if "cpus" in machine and "memory" in machine:
        parts += [f"{machine['cpus']} CPUs", f"{machine['memory'] / 1e9:.1f} GB of memory"]
    if machine.get("gpus"):
        parts += [*machine["gpus"], f"GPU driver {machine.get('gpu_driver')}"]
    return ", ".join(str(part) for part in parts if part)


def _system_name() -> str | None:
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', _text("/etc/os-release") or "", re.MULTILINE)
    return match[1] if match else None


def _cpu() -> str | None:
    match = re.search(r"^(?:model name|Model)\s*: (.*)$", _text("/proc/cpuinfo") or "", re.MULTILINE)
    return match[1] if match else None


def _gpus() -> list[str]:
    """The models of NVIDIA's GPUs, by bus address."""
    found = []
    with suppress(OSError):
        for bus in sorted(os.listdir("/proc/driver/nvidia/gpus")):
            match = re.search(
                r"^Model:\s*(.*)$", _text(f"/proc/driver/nvidia/gpus/{bus}/information") or "", re.MULTILINE
            )
            found.append(match[1] if match else bus)
    return found


def _text(file: str) -> str | None:
    """The start of ``file``. The kernel makes up all of cpuinfo, a millisecond for each processor, if asked for it."""
    try:
        with open(file, "rb", buffering=0) as stream:
            return stream.read(_CPUINFO_BYTES).decode(errors="replace").strip()
    except OSError:
        return None

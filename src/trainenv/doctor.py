"""What of this machine and workspace trainenv can use, found by trying."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from trainenv.errors import TrainenvError
from trainenv.settings import Settings

State = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``error`` means that something will not work."""

    name: str
    state: State
    text: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything in turn; quick things first."""
    looks: dict[str, Callable[[Settings], Iterator[Finding]]] = {
        "workspace": _workspace,
        "disk": _disk,
        "pip settings": _pip,
        "uv": _uv,
        "host channel": _interpreters,
        "network": _network,
        "programs": _programs,
        "shells": _shells,
    }
    for name, look in looks.items():
        try:
            yield from look(settings)
        except TrainenvError as error:
            yield Finding(name, "error", str(error))


def _workspace(settings: Settings) -> Iterator[Finding]:
    file = f"settings in {settings.file}" if settings.file.is_file() else "no trainenv.toml: defaults"
    nearest = settings.root
    while not nearest.exists():
        nearest = nearest.parent
    if not os.access(nearest, os.W_OK):
        yield Finding("workspace", "error", f"{settings.root} can't be written")
    else:
        yield Finding("workspace", "ok", f"{settings.root} ({file})")


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.envs_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free for environments in {settings.envs_dir}"
    yield Finding("disk", "ok" if free > 5e9 else "warning", text)
    cache = settings.cache_dir
    while not cache.exists():
        cache = cache.parent
    if not os.access(cache, os.W_OK):
        yield Finding("package cache", "error", f"{settings.cache_dir} can't be written")
    elif cache.stat().st_dev != folder.stat().st_dev:
        text = f"{settings.cache_dir} is not on the file system of the environments: packages are copied, not linked"
        yield Finding("package cache", "warning", text)
    else:
        yield Finding("package cache", "ok", f"{settings.cache_dir}: environments link its files")


def _pip(_: Settings) -> Iterator[Finding]:
    from trainenv.channels.pypi import pip_origins
    from trainenv.channels.uv_settings import uv_files

    found = pip_origins()
    if not found:
        yield Finding("pip settings", "ok", "none found: pip's defaults are used")
    for origin, names in found.items():
        yield Finding("pip settings", "ok", f"{origin}: {', '.join(sorted(names))}")
    for file in uv_files():
        yield Finding("uv settings", "ok", f"{file.path}: {file.summary}")


def _uv(_: Settings) -> Iterator[Finding]:
    import subprocess

    from trainenv.channels.pypi import find_uv

    uv = find_uv()
    done = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False)
    yield Finding("uv", "ok" if done.returncode == 0 else "error", f"{done.stdout.strip()} at {uv}")


def _interpreters(settings: Settings) -> Iterator[Finding]:
    from trainenv.channels.host import find_interpreters

    found = find_interpreters(settings.cache_dir)
    usable = [item for item in found if item.unusable is None]
    if not usable:
        yield Finding("host channel", "error", "no interpreter of this machine can be used")
    for item in found:
        if item.unusable is None:
            yield Finding("host channel", "ok", f"Python {item.version} ({item.source}) at {item.executable}")
        else:
            yield Finding("host channel", "warning", f"{item.executable} can't be used: {item.unusable}")


def _network(settings: Settings) -> Iterator[Finding]:
    from trainenv.channels import report

    for observation in report.observations(settings):
        yield Finding(*observation)


def _shells(settings: Settings) -> Iterator[Finding]:
    from trainenv.environments.initialised import findings

    for name, state, text in findings():
        yield Finding(name, state, text)


def _programs(_: Settings) -> Iterator[Finding]:
    for program, use in (("tar", "unpacking by hand"), ("zstd", "unpacking by hand"), ("nvidia-smi", "GPUs")):
        place = shutil.which(program)
        yield Finding(program, "ok" if place else "warning", place or f"not on PATH (used for {use})")

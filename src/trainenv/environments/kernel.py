"""An environment as a kernel of Jupyter: a ``kernel.json`` in the user's Jupyter data folder.

Jupyter starts the kernel through ``trainenv run``: with the environment active, its lock held, and
signals (Jupyter interrupts by SIGINT) going to the kernel itself.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from pathlib import Path

from trainenv.environments.environment import Environment
from trainenv.environments.records import distributions
from trainenv.environments.shells import program
from trainenv.errors import InstallError, TrainenvError
from trainenv.settings import Settings


def kernels_folder(prefix: Path | None = None) -> Path:
    """Where Jupyter looks for kernels: the user's own, or those of the Jupyter installed in ``prefix``."""
    if prefix is not None:
        return prefix / "share" / "jupyter" / "kernels"
    data = os.environ.get("JUPYTER_DATA_DIR")
    if data:
        return Path(data) / "kernels"
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "jupyter" / "kernels"


def install(settings: Settings, environment: Environment, folder: Path, *, display_name: str | None = None) -> Path:
    """Write the kernel of ``environment`` into ``folder``; returns its own folder there.

    Raises ``InstallError`` if the environment has no ipykernel, if the folder can't be written, or if
    another environment's kernel has the name.
    """
    if not any(found.key == "ipykernel" for found in distributions(environment.prefix)):
        raise InstallError(
            f"environment {environment.name!r} has no ipykernel, which a Jupyter kernel is made of",
            hint=f"Install it: trainenv pip install -n {environment.name} ipykernel",
        )
    language = f"Python {environment.python}" if environment.python else "Python"
    content = {
        "argv": [
            *program(),
            "run",
            *_naming(settings, environment),
            "python",
            "-m",
            "ipykernel_launcher",
            "-f",
            "{connection_file}",
        ],
        "display_name": display_name or f"{language} ({environment.name})",
        "language": "python",
        "interrupt_mode": "signal",
        "metadata": {"debugger": True, "trainenv": {"prefix": str(environment.prefix)}},
    }
    target = folder / kernel_name(environment.name)
    owner = _prefix_of(target)
    if owner not in (None, str(environment.prefix)) and Path(owner or "").is_dir():
        raise InstallError(
            f"the kernel {target.name} is there already, of the environment {owner}",
            hint=f"Remove {target} first, or give one of the two environments another name",
        )
    beside = folder / f".{target.name}-{secrets.token_hex(4)}"
    try:
        beside.mkdir(parents=True)
        (beside / "kernel.json").write_text(json.dumps(content, indent=1) + "\n")
        if target.exists():
            os.replace(beside / "kernel.json", target / "kernel.json")
            beside.rmdir()
        else:
            os.rename(beside, target)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise InstallError(f"the kernel can't be written to {folder}", cause=error.strerror or str(error)) from None
    return target


def remove(name: str, folder: Path) -> Path:
    """Take the kernel of environment ``name`` out of ``folder``; the environment may be gone already."""
    target = folder / kernel_name(name)
    if not (target / "kernel.json").is_file():
        raise TrainenvError(
            f"environment {name!r} has no kernel in {folder}", hint="`jupyter kernelspec list` shows all"
        )
    try:
        shutil.rmtree(target)
    except OSError as error:
        raise TrainenvError(f"{target} can't be removed", cause=error.strerror or str(error)) from None
    return target


def of_prefix(prefix: Path, folder: Path) -> list[Path]:
    """The kernels in ``folder`` that start in the environment at ``prefix``."""
    return [each.parent for each in sorted(folder.glob("*/kernel.json")) if _prefix_of(each.parent) == str(prefix)]


def drop(prefix: Path, folder: Path) -> list[Path]:
    """Take the kernels of the environment at ``prefix``, which is gone, out of ``folder``; returns those that went."""
    gone = of_prefix(prefix, folder)
    for kernel in gone:
        shutil.rmtree(kernel, ignore_errors=True)
    return [kernel for kernel in gone if not kernel.exists()]


def follow(settings: Settings, former: Path, environment: Environment, folder: Path) -> list[Path]:
    """Let the kernels in ``folder`` that started in ``former`` start in ``environment``, which was that one.

    Their names become those of its new name; what somebody called them to be shown as stays. Raises as
    ``install`` does.
    """
    made = []
    for kernel in of_prefix(former, folder):
        shown = str(json.loads((kernel / "kernel.json").read_bytes()).get("display_name", ""))
        own = None if not shown or shown.endswith(f" ({former.name})") else shown
        made.append(install(settings, environment, folder, display_name=own))
        if kernel not in made:
            shutil.rmtree(kernel, ignore_errors=True)
    return made


def _naming(settings: Settings, environment: Environment) -> list[str]:
    """What names the environment to ``trainenv run``, from whatever folder Jupyter starts it."""
    if environment.prefix == settings.envs_dir / environment.name:
        return ["--workspace", str(settings.root), "-n", environment.name]
    return ["-p", str(environment.prefix)]


def _prefix_of(kernel: Path) -> str | None:
    """The environment that an installed kernel starts in; None where there is none of trainenv's."""
    try:
        return str(json.loads((kernel / "kernel.json").read_bytes())["metadata"]["trainenv"]["prefix"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def kernel_name(name: str) -> str:
    """The name by which Jupyter knows the kernel: letters, digits and ``- . _`` only, lower case."""
    return "trainenv-" + re.sub(r"[^a-z0-9._-]", "_", name.lower())

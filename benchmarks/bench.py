"""The bench that the cases work on: a folder with two workspaces, the measured environment, the programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import BenchmarkError

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
"""The Python version of all environments: that of the running interpreter, which the host channel has for sure."""

MEDIUM = ("numpy", "scikit-learn")
LARGE = ("torch==2.13.0", "transformers", "datasets", "accelerate", "scikit-learn", "matplotlib")

ENVIRONMENT = "bench"

_SETTLE_SECONDS = 1.0


@dataclass(frozen=True)
class Bench:
    """``folder`` holds everything; ``variables`` are the environment variables of all that is measured.

    The measured environment ``bench`` lies in workspace ``machine_a``; archives are unpacked in workspace
    ``machine_b``. ``peers`` are the programs of the peers that are there, by name.
    """

    folder: Path
    variables: Mapping[str, str]
    requirements: Sequence[str]
    peers: Mapping[str, str]

    @property
    def machine_a(self) -> Path:
        return self.folder / "machine_a"

    @property
    def machine_b(self) -> Path:
        return self.folder / "machine_b"

    @property
    def prefix(self) -> Path:
        return self.machine_a / "envs" / ENVIRONMENT

    def on_machine_b(self, program: str) -> tuple[str, ...]:
        """How a command of ``program`` begins that knows nothing of machine A's environments."""
        return "env", f"HOME={self.folder / 'home_b'}", program, "--workspace", str(self.machine_b)

    def run(self, *command: str) -> str:
        """Run ``command`` outside any timing; returns its output. Raises ``BenchmarkError``."""
        ran = subprocess.run(command, env=dict(self.variables), capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise BenchmarkError(f"{' '.join(command)} ended with {ran.returncode}: {ran.stderr.strip()[-2000:]}")
        return ran.stdout


def trainenv() -> str:
    """The ``trainenv`` program of the running interpreter."""
    return _own_program("trainenv") or _missing("trainenv is not installed beside this interpreter; use script/bench")


def conda_pack() -> str | None:
    """The ``conda-pack`` program, if there is one."""
    return _own_program("conda-pack") or shutil.which("conda-pack")


PEERS = ("micromamba", "conda", "mlflow")
"""Programs that are no part of the test setup: given by path, in a variable, or on PATH."""


def find_peers(given: Mapping[str, str | None]) -> dict[str, str]:
    """The program of each peer that is there: ``given``, else ``TRAINENV_BENCH_NAME``, else on PATH.

    Raises ``BenchmarkError`` where one that is named is not there.
    """
    found = {}
    for name in PEERS:
        named = given.get(name) or os.environ.get(f"TRAINENV_BENCH_{name.upper()}")
        if program := shutil.which(named or name):
            found[name] = os.path.abspath(program)
        elif named:
            _missing(f"there is no program {named}, which was named as {name}")
    return found


def cores() -> int:
    """How many cores this process may use; also how many threads the contenders that can choose get."""
    return len(os.sched_getaffinity(0))


def set_up(folder: Path, requirements: Sequence[str], peers: Mapping[str, str]) -> Bench:
    """Make the two workspaces in ``folder`` and the environment with ``requirements``.

    The measured programs get an empty home folder, so that the user's list of environments stays
    as it is, but read the user's own pip settings.
    """
    home = Path("~").expanduser()
    dropped = ("TRAINENV_", "CONDA_", "MAMBA_", "PYTHON")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    variables.setdefault("XDG_CONFIG_HOME", str(home / ".config"))
    if (home / ".pyenv").is_dir():
        variables.setdefault("PYENV_ROOT", str(home / ".pyenv"))
    bench = Bench(folder, variables, requirements, peers)
    variables |= {
        "HOME": str(folder / "home"),
        "TRAINENV_HOME": str(bench.machine_a),
        "MAMBA_ROOT_PREFIX": str(folder / "mamba"),
        "CONDA_PKGS_DIRS": str(folder / "conda-packages"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    for place in (folder / "home", folder / "home_b", bench.machine_a, bench.machine_b):
        place.mkdir(parents=True)
    for workspace in (bench.machine_a, bench.machine_b):
        (workspace / "trainenv.toml").write_text('channels = ["host"]\n')
    wanted = folder / "requirements.txt"
    wanted.write_text("".join(f"{line}\n" for line in requirements))
    bench.run(trainenv(), "create", "-n", ENVIRONMENT, f"python={PYTHON}", "-r", str(wanted))
    return bench


def settle() -> None:
    """Let the disk finish what was written and deleted, so that the next timing does not pay for it."""
    os.sync()
    time.sleep(_SETTLE_SECONDS)


def _own_program(name: str) -> str | None:
    return shutil.which(name, path=sysconfig.get_path("scripts"))


def _missing(message: str) -> str:
    raise BenchmarkError(message)


def extent(prefix: Path) -> tuple[int, int]:
    """How many files (links are none) a prefix holds, and how many bytes they have in all."""
    files = [os.path.join(folder, name) for folder, _, names in os.walk(prefix) for name in names]
    sizes = [os.lstat(file).st_size for file in files if not os.path.islink(file)]
    return len(sizes), sum(sizes)

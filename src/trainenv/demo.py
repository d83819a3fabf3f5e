"""The guide's whole journey on real data: build two environments, train, pack, move, prove, train again.

Everything that it says, it has computed; what does not hold raises ``VerificationError``.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from trainenv.api import Workspace
from trainenv.environments.environment import Environment
from trainenv.errors import InterpreterError, UsageError, VerificationError
from trainenv.progress import Reporter
from trainenv.training import Task

TABULAR, MODERN, MOVED = "tabular_env", "modern_env", "tabular_env_on_b"
TABULAR_METHOD, MODERN_METHOD = "breast_cancer_sgd", "digits_mlp"

_OLD_STACKS = (
    ((3, 12), "numpy==1.26.*", "scikit-learn==1.4.*"),
    ((3, 13), "numpy==2.1.*", "scikit-learn==1.6.*"),
    ((3, 14), "numpy==2.3.*", "scikit-learn==1.7.*"),
)
"""The newest Python that each older pair of packages has wheels for."""

_NEW_STACK = ("numpy>=2", "scikit-learn>=1.5")


@dataclass
class Journey:
    """What came of it. ``environments`` are (environment as JSON, seconds it took to appear)."""

    folder: Path
    environments: list[tuple[dict[str, object], float]] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    chart: Path | None = None


class Audience(Protocol):
    """Who watches the journey, besides the reporter of its steps."""

    def say(self, headline: str) -> None:
        """Hear what comes next."""

    def log(self, line: str) -> None:
        """Hear a line that training writes, as it writes it."""

    def prove(self, fact: str) -> None:
        """Hear what was computed and holds."""


def travel(folder: Path | None, reporter: Reporter, audience: Audience) -> Journey:
    """Make the journey in ``folder``, or a new temporary one, which is kept."""
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="trainenv-demo-"))
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", hint="Name a new folder with --folder, or none at all")
    folder.mkdir(parents=True, exist_ok=True)
    journey = Journey(folder.resolve())
    a = _workspace(journey.folder / "machine_a", reporter)
    b = _workspace(journey.folder / "machine_b" / "with" / "a" / "longer" / "path", reporter)

    audience.say("Machine A: two environments with conflicting requirements, from the host channel")
    old, new = _pythons(a)
    numpy, sklearn = next((numpy, sklearn) for top, numpy, sklearn in _OLD_STACKS if old <= top)
    requirements = journey.folder / "requirements.txt"
    requirements.write_text(f"{numpy}\n{sklearn}\n")
    specification = journey.folder / "environment.yml"
    specification.write_text(
        f"name: {MODERN}\nchannels:\n  - host\ndependencies:\n  - python={_dotted(new)}\n  - pip\n  - pip:\n"
        + "".join(f"      - {line}\n" for line in _NEW_STACK)
    )
    with reporter.step(f"create {TABULAR}: {numpy} {sklearn}"):
        _timed(journey, lambda: a.create(TABULAR, f"python={_dotted(old)}", files=[requirements]))
    with reporter.step(f"create {MODERN}: {' '.join(_NEW_STACK)}"):
        _timed(journey, lambda: a.create(None, files=[specification]))

    audience.say("Machine A: a training method in each, on real measurements")
    first = _train(journey, a, TABULAR_METHOD, None, audience)
    _train(journey, a, MODERN_METHOD, None, audience)

    audience.say("Machine A: pack; carry the file to machine B; unpack it there under another name")
    source = a.environment(TABULAR)
    archive = a.pack(source, journey.folder / f"{TABULAR}.tar.zst").path
    with reporter.step("carry the archive to machine B", total=archive.stat().st_size, unit="B") as step:
        carried = b.settings.root / archive.name
        shutil.copyfile(archive, carried)
        step.advance(carried.stat().st_size)
    moved = _timed(journey, lambda: b.unpack(carried, MOVED))

    audience.say("Machine B: prove it, delete machine A's, train again")
    found = b.verify(moved, old_prefixes=[str(source.prefix)])
    if not found.ok:
        raise VerificationError(f"{MOVED} on machine B is not whole", cause="; ".join(found.problems[:3]))
    if not found.imported:
        raise VerificationError(f"{MOVED} on machine B imported nothing")
    audience.prove(f"{found.files} files hold their sha256")
    audience.prove("no file holds the prefix of machine A")
    audience.prove(f"the interpreter starts and imports {', '.join(found.imported)}")
    with reporter.step(f"remove {TABULAR} from machine A"):
        a.remove(TABULAR, force=True)
        if source.prefix.exists():
            raise VerificationError(f"{source.prefix} is still there after its removal")
    again = _train(journey, b, TABULAR_METHOD, MOVED, audience)
    if again.metrics_file.read_bytes() != first.metrics_file.read_bytes():
        raise VerificationError("machine B's metrics differ from A's", cause=f"see {again.folder} and {first.folder}")
    if again.parameters != first.parameters:
        raise VerificationError("machine B's parameters differ from machine A's")
    audience.prove(f"the metrics of all {_lines(again.metrics_file)} epochs are the same on A and B, to the last digit")

    journey.chart = journey.folder / "metrics.png"
    with reporter.step("draw the chart"):
        from trainenv.training import chart

        chart.draw(journey.tasks, journey.chart)
    return journey


def _workspace(root: Path, reporter: Reporter) -> Workspace:
    root.mkdir(parents=True)
    (root / "trainenv.toml").write_text(
        '# This machine\'s interpreters, also where a channel answers.\nchannels = ["host"]\n'
    )
    shutil.copytree(_examples(), root / "methods", ignore=shutil.ignore_patterns("__pycache__"))
    return Workspace(root, reporter=reporter)


def _examples() -> Path:
    """The example methods: inside an installed trainenv, or in its source tree."""
    installed = Path(__file__).parent / "examples" / "methods"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "methods"


def _pythons(place: Workspace) -> tuple[tuple[int, int], tuple[int, int]]:
    """The Python (major, minor) for the older packages and the one for the newer ones."""
    from trainenv.channels.host import find_interpreters

    usable = sorted(
        {
            (int(major), int(minor))
            for item in find_interpreters(place.settings.cache_dir)
            if item.unusable is None
            for major, minor in [item.version.split(".")[:2]]
        }
    )
    old = [version for version in usable if (3, 9) <= version <= _OLD_STACKS[0][0]]
    old = old or [version for version in usable if version <= _OLD_STACKS[-1][0]]
    new = [version for version in usable if (3, 10) <= version <= _OLD_STACKS[-1][0]]
    if not old or not new:
        raise InterpreterError(
            "the demo needs a Python of 3.10 to 3.14 that can become a package",
            cause=f"there are {', '.join(_dotted(version) for version in usable) or 'none'}",
            hint="`trainenv doctor` names every interpreter and what is wrong with it",
        )
    return old[-1], new[-1]


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _timed(journey: Journey, make: Callable[[], Environment]) -> Environment:
    begun = time.monotonic()
    environment = make()
    journey.environments.append((environment.to_json(), time.monotonic() - begun))
    return environment


def _train(journey: Journey, place: Workspace, method: str, conda_env: str | None, audience: Audience) -> Task:
    task = place.start(method, conda_env=conda_env)
    epochs = task.parameters.get("epochs")
    with place.reporter.step(f"train {method} in {task.conda_env}", unit="epochs") as step:
        if isinstance(epochs, int):
            step.expect(epochs)
        line = ""
        for event in place.follow(task):
            line += event.text
            if line.endswith("\n"):
                audience.log(line.rstrip())
                line = ""
            if event.metrics:
                step.advance()
        if line:
            audience.log(line)
    task = place.task(task.id)
    if task.status != "done":
        raise VerificationError(f"task {task.id} of {method} is {task.outcome}", hint=f"See {task.log_file}")
    if not task.metrics or not any(task.outputs.iterdir()):
        raise VerificationError(f"task {task.id} of {method} left no metrics or no model", hint=f"See {task.folder}")
    journey.tasks.append(task)
    return task


def _lines(file: Path) -> int:
    return len(file.read_text().splitlines())

"""The Python API: a ``Workspace`` and what it makes. Thin: each method is one call into its room.

Example::

    from trainenv import Workspace

    workspace = Workspace()
    workspace.create("tabular_env", "python=3.11", files=["requirements.txt"])
    task = workspace.train("breast_cancer_sgd", epochs=20)
    print(task.metrics["accuracy"])
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainenv.errors import UsageError
from trainenv.progress import Reporter, SilentReporter
from trainenv.settings import Settings, checked_name, load

if TYPE_CHECKING:
    from trainenv.archives import Archive
    from trainenv.environments.environment import Environment
    from trainenv.environments.verify import Verification
    from trainenv.training import BrokenMethod, Event, Method, Task

StrPath = str | os.PathLike[str]


class Workspace:
    """The folder under which environments, methods and tasks live.

    ``path`` defaults as the command line's ``--workspace`` does (see ``settings.load``).
    ``reporter`` hears of long work; by default nobody does.
    """

    def __init__(self, path: StrPath | None = None, *, reporter: Reporter | None = None) -> None:
        self.settings: Settings = load(path)
        self.reporter: Reporter = reporter or SilentReporter()

    # Environments

    def create(
        self, name: str | None, *specs: str, files: Sequence[StrPath] = (), channels: Sequence[str] = ()
    ) -> Environment:
        """Make an environment from conda specs and files (``environment.yml``, ``requirements.txt``).

        ``name`` None takes the name that an ``environment.yml`` gives. Raises a ``TrainenvError``,
        leaving nothing behind, when it can't be made.
        """
        from trainenv.environments import build, environment, specification

        if name is not None:
            checked_name(name, "environment")
        wanted = specification.gather(specs, map(Path, files), channels)
        name = name or wanted.name
        if name is None:
            raise UsageError("the environment needs a name", hint="Give one with -n NAME")
        build.create(self.settings, name, wanted, self.reporter)
        return environment.get(self.settings, name)

    def install(
        self, name: str, *specs: str, files: Sequence[StrPath] = (), channels: Sequence[str] = ()
    ) -> Environment:
        """Add conda packages and PyPI requirements in one transaction; on failure nothing changes."""
        from trainenv.environments import build, environment, specification

        environment.get(self.settings, name)
        build.install(self.settings, name, specification.gather(specs, map(Path, files), channels), self.reporter)
        return environment.get(self.settings, name)

    def environments(self) -> list[Environment]:
        """All environments, by name."""
        from trainenv.environments import environment

        return environment.list_all(self.settings)

    def environment(self, name: str) -> Environment:
        """One environment. Raises ``EnvironmentNotFoundError``."""
        from trainenv.environments import environment

        return environment.get(self.settings, name)

    def environment_at(self, prefix: StrPath) -> Environment:
        """The environment in a folder anywhere. Raises ``EnvironmentNotFoundError``."""
        from trainenv.environments import environment

        return environment.at(prefix)

    def verify(
        self, environment: Environment, *, old_prefixes: Sequence[str] = (), imports: bool = True
    ) -> Verification:
        """Check files, hashes, leftover prefixes and the interpreter of an environment."""
        from trainenv.environments.verify import verify

        return verify(environment, self.reporter, old_prefixes=old_prefixes, imports=imports)

    def remove(self, name: str) -> None:
        """Remove an environment. Raises ``EnvironmentBusyError`` while something runs in it."""
        from trainenv.environments import environment

        environment.remove(self.settings, name)

    # Archives

    def pack(self, environment: Environment, output: StrPath, *, level: int = 3, threads: int | None = None) -> Archive:
        """Write an environment into one archive file. ``level`` is zstd's, ``threads`` None means all."""
        from trainenv import archives

        return archives.pack(
            environment.prefix,
            Path(output),
            name=environment.name,
            level=level,
            threads=threads,
            reporter=self.reporter,
        )

    def unpack(self, file: StrPath, name: str | None = None, *, prefix: str | None = None) -> Environment:
        """Make an environment from an archive, every byte checked, relocated to its place here.

        ``name`` defaults to the archive's. ``prefix`` is the prefix under which another machine or
        container sees the environment.
        """
        from trainenv import archives
        from trainenv.environments import environment, registry

        made, _ = archives.unpack_environment(
            self.settings, Path(file), name=name, prefix=prefix, reporter=self.reporter
        )
        registry.register(self.settings.prefix_of(made))
        return environment.get(self.settings, made)

    def inspect(self, file: StrPath, *, verify: bool = False) -> Archive:
        """What an archive holds; with ``verify`` every byte of it is checked."""
        from trainenv import archives

        if verify:
            archives.verify_archive(Path(file), reporter=self.reporter)
        return archives.open_archive(Path(file))

    # Methods and tasks

    def methods(self) -> list[Method | BrokenMethod]:
        """All training methods, by name; one whose file is wrong comes with its ``error``."""
        from trainenv.training import list_methods

        return list_methods(self.settings.methods_dir)

    def method(self, name: str) -> Method:
        """One training method. Raises ``MethodError``."""
        from trainenv.training import load_method

        return load_method(self.settings.methods_dir, name)

    def validate(self, method: Method) -> list[str]:
        """What keeps a method from running, in words; empty if nothing does."""
        from trainenv.training import validate

        names = {environment.name for environment in self.environments()}
        return validate(method, names.__contains__)

    def start(self, method: str, *, stage: str = "train", conda_env: str | None = None, **parameters: object) -> Task:
        """Start a task; it runs on by itself."""
        from trainenv.environments import environment
        from trainenv.training import checked_parameters, start

        found = self.method(method)
        checked_parameters(found, parameters)
        name = conda_env or found.environment_of(stage)
        prefix = environment.get(self.settings, name).prefix if name else Path()
        return start(self.settings, found, parameters, stage=stage, conda_env=conda_env, prefix=prefix)

    def train(self, method: str, *, stage: str = "train", conda_env: str | None = None, **parameters: object) -> Task:
        """Start a task and wait for its end."""
        from trainenv.training import wait

        return wait(self.start(method, stage=stage, conda_env=conda_env, **parameters))

    def follow(self, task: Task) -> Iterator[Event]:
        """What a task writes, as it comes, until it ends."""
        from trainenv.training import follow

        return follow(task)

    def cancel(self, task: Task) -> Task:
        """End a running task."""
        from trainenv.training import cancel

        return cancel(task)

    def tasks(self) -> list[Task]:
        """All tasks, newest first."""
        from trainenv.training import list_tasks

        return list_tasks(self.settings.tasks_dir)

    def task(self, identifier: str) -> Task:
        """One task, by its id or the start of it. Raises ``TaskError``."""
        from trainenv.training import load_task

        return load_task(self.settings.tasks_dir, identifier)

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainenv.errors import ArchiveError, EnvironmentBusyError, InstallError, TaskError, UsageError
from trainenv.locks import IfBusy
from trainenv.progress import Reporter, SilentReporter
from trainenv.settings import Settings, checked_name, load

if TYPE_CHECKING:
    from trainenv.archives import Archive, Editable, Filter, Host, HostCheck, Manifest
    from trainenv.archives.delta import OtherSide
    from trainenv.archives.origins import Origins
    from trainenv.archives.shipping.pushing import Pushed
    from trainenv.archives.signing import Signature
    from trainenv.archives.sources import ByteSource
    from trainenv.channels.host import Interpreter
    from trainenv.channels.mirror import Mirror
    from trainenv.channels.report import ChannelState
    from trainenv.channels.target import Target
    from trainenv.environments.cleaning import Unused
    from trainenv.environments.diff import Change
    from trainenv.environments.environment import Environment
    from trainenv.environments.locking import Locks
    from trainenv.environments.preview import Plan
    from trainenv.environments.repair import Repair
    from trainenv.environments.rollback import Generation
    from trainenv.environments.verify import Verification
    from trainenv.training import BrokenMethod, Event, Method, Task
    from trainenv.training.comparison import Comparison
    from trainenv.training.index import Summary
    from trainenv.training.rerun import Differences
    from trainenv.training.selection import Selection

StrPath = str | os.PathLike[str]
Confirm = Callable[["Plan"], bool]

_PIECE_BYTES = 1 << 16


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
        self,
        name: str | None,
        *specs: str,
        files: Sequence[StrPath] = (),
        channels: Sequence[str] = (),
        target: Target | None = None,
        freeze_conda: bool = False,
        confirm: Confirm | None = None,
    ) -> Environment:
        """Make an environment from conda specs and files (``environment.yml``, ``requirements.txt``).

        ``target`` says for what machine packages are chosen where that is not this one, such as one with a
        GPU (``Target(cuda="12.4")``), and as of which day; later changes keep to it.
        ``name`` None takes the name that an ``environment.yml`` gives. ``freeze_conda`` forbids PyPI
        packages to replace conda's; ``confirm`` is asked with the plan before anything is fetched,
        and ``DeclinedError`` raised when it says no. Raises a ``TrainenvError``, leaving nothing behind,
        when it can't be made.
        """
        from trainenv.channels.target import Target
        from trainenv.environments import build, environment, specification

        if name is not None:
            checked_name(name, "environment")
        wanted = specification.gather(specs, map(Path, files), channels, target.platform if target else None)
        name = name or wanted.name
        if name is None:
            raise UsageError("the environment needs a name", hint="Give one with -n NAME")
        manner = build.Manner(freeze_conda=freeze_conda, confirm=confirm, target=target or Target())
        build.create(self.settings, name, wanted, self.reporter, manner)
        return environment.get(self.settings, name)

    def install(
        self,
        name: str,
        *specs: str,
        files: Sequence[StrPath] = (),
        channels: Sequence[str] = (),
        requirements: Sequence[str] = (),
        upgrade: bool = False,
        target: Target | None = None,
        freeze_conda: bool = False,
        confirm: Confirm | None = None,
        wait: bool = False,
        force: bool = False,
    ) -> Environment:
        """Add conda packages and PyPI requirements in one transaction; on failure nothing changes.

        ``requirements`` are lines in pip's format; ``upgrade`` takes the newest of those that are named.
        ``wait`` waits while something runs in the environment, ``force`` goes on. See ``create``.
        """
        from trainenv.channels.target import Target
        from trainenv.environments import build, environment, specification

        environment.own(self.settings, name)
        wanted = specification.gather(specs, map(Path, files), channels)
        if requirements:
            wanted = wanted.merged(specification.of_requirements(requirements))
        manner = build.Manner(self._if_busy(wait, force), freeze_conda, confirm, target or Target())
        build.install(self.settings, name, wanted, self.reporter, manner, upgrade=upgrade)
        return environment.get(self.settings, name)

    def remove_packages(
        self, name: str, *packages: str, confirm: Confirm | None = None, wait: bool = False, force: bool = False
    ) -> Environment:
        """Take packages, and what depends on them, out of an environment. See ``install``."""
        from trainenv.environments import build, environment

        environment.own(self.settings, name)
        manner = build.Manner(self._if_busy(wait, force), confirm=confirm)
        build.remove(self.settings, name, packages, self.reporter, manner)
        return environment.get(self.settings, name)

    def update(
        self,
        name: str,
        *packages: str,
        target: Target | None = None,
        freeze_conda: bool = False,
        confirm: Confirm | None = None,
        wait: bool = False,
        force: bool = False,
    ) -> Environment:
        """Bring packages, or all, to the newest that the environment's specification allows. See ``install``."""
        from trainenv.channels.target import Target
        from trainenv.environments import build, environment

        environment.own(self.settings, name)
        manner = build.Manner(self._if_busy(wait, force), freeze_conda, confirm, target or Target())
        build.update(self.settings, name, packages, self.reporter, manner)
        return environment.get(self.settings, name)

    def lock(
        self,
        *specs: str,
        files: Sequence[StrPath] = (),
        channels: Sequence[str] = (),
        targets: Sequence[Target] = (),
    ) -> Locks:
        """What an environment would hold, to the file, on each of ``targets``; none is made.

        By default on this machine. See ``create``.
        """
        from trainenv.channels.target import Target
        from trainenv.environments import locking, specification

        wanted = specification.gather(specs, map(Path, files), channels)
        return locking.lock(self.settings, wanted, targets or [Target()], self.reporter)

    def generations(self, name: str) -> list[Generation]:
        """The states of an environment that a rollback can go to, and the present one, newest first."""
        from trainenv.environments import rollback

        return rollback.list_generations(self.settings, name)

    def rollback(self, name: str, *, to: int | None = None, wait: bool = False, force: bool = False) -> Environment:
        """Go back to the state before the last change, or to state ``to``; a second one goes forward again."""
        from trainenv.environments import environment, rollback

        rollback.rollback(self.settings, name, to, self._if_busy(wait, force))
        return environment.get(self.settings, name)

    def _if_busy(self, wait: bool, force: bool) -> IfBusy:
        return IfBusy(wait=wait, force=force, tell=self.reporter.notice)

    def environments(self, *, foreign: bool = False) -> list[Environment]:
        """All environments, by name; with ``foreign`` then also conda's and other workspaces'."""
        from trainenv.environments import environment

        found = environment.list_all(self.settings)
        return [*found, *environment.list_foreign(self.settings)] if foreign else found

    def environment(self, name: str, *, to_use: bool = True) -> Environment:
        """One environment; mounted if that is to be and it is ``to_use``. Raises ``EnvironmentNotFoundError``."""
        from trainenv.environments import environment

        return environment.get(self.settings, name, to_use=to_use)

    def environment_at(self, prefix: StrPath) -> Environment:
        """The environment in a folder anywhere. Raises ``EnvironmentNotFoundError``."""
        from trainenv.environments import environment

        return environment.at(prefix)

    def verify(
        self, environment: Environment, *, old_prefixes: Sequence[str] = (), imports: bool = True
    ) -> Verification:
        """Check files, hashes, leftover prefixes and the interpreter of an environment.

        Of a mounted one every file of its image is held against the archive's manifest as well.
        """
        from trainenv.environments import mounts
        from trainenv.environments.verify import verify

        found = verify(environment, self.reporter, old_prefixes=old_prefixes, imports=imports)
        if (mount := mounts.mount_of(environment.prefix)) is not None:
            from trainenv import archives

            try:
                archives.verify_archive(Path(mount.image), self.reporter)
            except ArchiveError as error:
                found.problems.append(f"its image {error.message}: {error.cause}")
        return found

    def export(
        self,
        environment: Environment,
        format: str = "environment.yml",
        *,
        builds: bool = True,
        from_history: bool = False,
    ) -> str:
        """An environment as text in a format of ``environments.export.FORMATS``, to create it again from.

        An ``environment.yml`` has no build strings without ``builds``, with ``from_history`` only what was asked for.
        """
        from trainenv.environments import export

        return export.export(self.settings, environment, format, builds=builds, from_history=from_history)

    def diff(self, before: StrPath, after: StrPath) -> list[Change]:
        """What differs between two environments, or one and a lock, an archive or a specification."""
        from trainenv.environments import diff
        from trainenv.environments.records import Package

        def archived(file: str) -> list[Package]:
            return [Package(**vars(package), channel="") for package in self.inspect(file).manifest.packages]

        return diff.between(self.settings, os.fspath(before), os.fspath(after), archived)

    def repair(self, name: str, *, relocate: bool = False, wait: bool = False, force: bool = False) -> Repair:
        """Mend what ``verify`` finds, from cache or channel; with ``relocate`` also after a move by hand.

        See ``install`` for ``wait`` and ``force``.
        """
        from trainenv.environments.repair import repair

        if_busy = self._if_busy(wait, force)
        return repair(self.settings, name, self.reporter, relocate=relocate, if_busy=if_busy)

    def clone(self, source: Environment, name: str) -> Environment:
        """A copy of an environment, which may be conda's, under a new name."""
        from trainenv.environments import copies, environment, mounts

        if (mount := mounts.mount_of(source.prefix)) is not None:
            return self.unpack(mount.image, name)
        copies.clone(self.settings, source, checked_name(name, "environment"), self.reporter)
        return environment.get(self.settings, name)

    def rename(self, old: str, new: str, *, wait: bool = False, force: bool = False) -> Environment:
        """Give an environment another name; the user's Jupyter kernel of it follows. See ``install``."""
        from trainenv.environments import copies, environment, kernel

        former = environment.own(self.settings, old).prefix
        checked_name(new, "environment")
        copies.rename(self.settings, old, new, self.reporter, self._if_busy(wait, force))
        renamed = environment.get(self.settings, new)
        try:
            for made in kernel.follow(self.settings, former, renamed, kernel.kernels_folder()):
                self.reporter.notice(f"its Jupyter kernel is {made.name} now")
        except InstallError as error:
            self.reporter.notice(f"its Jupyter kernel still names {old}: {error}")
        return renamed

    def remove(self, name: str, *, wait: bool = False, force: bool = False) -> None:
        """Remove an environment, and the user's Jupyter kernel that starts in it.

        Raises ``EnvironmentBusyError`` while something runs in it, unless ``wait``.

        Unless ``force``, also while a training method names it.
        """
        from trainenv.environments import environment, kernel

        if not force and (methods := self.methods_naming(name)):
            raise EnvironmentBusyError(
                f"environment {name!r} is needed",
                cause=f"training method {', '.join(methods)} names it",
                hint="Name another environment there, or remove it with --force",
            )
        environment.remove(self.settings, name, self._if_busy(wait, force))
        for gone in kernel.drop(self.settings.prefix_of(name), kernel.kernels_folder()):
            self.reporter.notice(f"its Jupyter kernel {gone.name} went with it")

    def clean(self, *, everything: bool = False, dry_run: bool = False) -> list[Unused]:
        """Remove what no environment uses, or only find it; with ``everything`` also what rollbacks need."""
        from trainenv.environments import cleaning

        return cleaning.clean(self.settings, everything=everything, dry_run=dry_run)

    def set_variables(
        self, environment: Environment, put: Mapping[str, str] | None = None, *, drop: Iterable[str] = ()
    ) -> None:
        """Set variables of an environment, and unset those named in ``drop``: all or none."""
        from trainenv.environments import variables

        variables.change(self.settings, environment.prefix, put=put, drop=drop)

    def install_kernel(
        self, environment: Environment, *, display_name: str | None = None, prefix: StrPath | None = None
    ) -> Path:
        """Make an environment a Jupyter kernel, for the user or in ``prefix``; returns the kernel's folder."""
        from trainenv.environments import kernel

        folder = kernel.kernels_folder(Path(prefix) if prefix else None)
        return kernel.install(self.settings, environment, folder, display_name=display_name)

    def remove_kernel(self, name: str, *, prefix: StrPath | None = None) -> Path:
        """Take the kernel of environment ``name`` out of Jupyter."""
        from trainenv.environments import kernel

        return kernel.remove(name, kernel.kernels_folder(Path(prefix) if prefix else None))

    # Channels

    def channels(self) -> list[ChannelState]:
        """The channels that are used where nothing else is said, each address of them tried."""
        from trainenv.channels import report

        return report.channels(self.settings)

    def add_host(self, python: str | None = None) -> Interpreter:
        """Put an interpreter of this machine into the host channel: a path, a version, or the best."""
        from trainenv.channels.host import adding

        return adding.add(self.settings.cache_dir, python, self.reporter)

    def build_host(self) -> list[Interpreter]:
        """Put all interpreters of this machine into the host channel; ``unusable`` says why one is not."""
        from trainenv.channels.host import adding

        return adding.add_all(self.settings.cache_dir, self.reporter)

    def mirror(self, source: StrPath, folder: StrPath) -> Mirror:
        """Copy all files of a lock or environment into a folder that is channel and index elsewhere."""
        from trainenv.environments import mirroring

        every = mirroring.locked_in(self.settings, os.fspath(source))
        return mirroring.mirror_locked(self.settings, every, Path(folder).absolute(), self.reporter)

    # Archives

    def pack(
        self,
        environment: Environment,
        output: StrPath | None = None,
        *,
        format: str | None = None,
        level: int | None = None,
        threads: int | None = None,
        self_extracting: bool = False,
        filters: Sequence[Filter] = (),
        strip: bool = False,
        editable: Editable = "refuse",
        dereference: bool = False,
        against: StrPath | None = None,
    ) -> Archive:
        """Write an environment into one archive, while nobody can change it.

        ``output`` is its file, by default called as the environment is. ``format`` is ``"tar.zst"``, ``"tar.gz"``,
        ``"tar"``, ``"squashfs"`` or ``"folder"``, by default what ``output`` is called. ``level`` is that of its
        compression (None: a quick one), ``threads`` None means all. A ``self_extracting`` archive is a shell script
        (``NAME.sh``) that unpacks itself, with a ``.tar.gz`` inside unless ``format`` says otherwise. ``filters``
        are pairs as ``("exclude", "*.h")`` and
        ``("include", "include/python*")``, in their order; ``strip`` leaves out compiled Python, tests and static
        libraries before them. Projects installed with ``-e`` make ``editable`` ``"refuse"`` to pack,
        ``"include"`` their folders or install each as a ``"wheel"``. ``dereference`` packs what links lead
        to outside of the environment. ``against`` is an archive that the other side has unpacked, or its
        ``env manifest``: then only what it lacks is packed.
        """
        from trainenv import archives, locks
        from trainenv.archives import machine
        from trainenv.environments import mounts

        choice = archives.Choice(filters, strip, editable, dereference, self.settings)
        there = None if against is None else machine.other_side(Path(against))
        if output is None:
            delta = "" if there is None else ".delta"
            output = f"{environment.name}{delta}{archives.chosen(None, format, self_extracting=self_extracting).ending}"
        with locks.in_use(environment.prefix):
            return archives.pack(
                mounts.image_folder(environment.prefix) or environment.prefix,
                Path(output),
                name=environment.name,
                format=format,
                level=level,
                threads=threads,
                self_extracting=self_extracting,
                choice=choice,
                against=there,
                reporter=self.reporter,
            )

    def manifests(self, environments: Sequence[Environment] = ()) -> list[Manifest]:
        """What ``environments`` hold, by default all of this machine: the files as archives would list them."""
        from trainenv.archives import machine

        return machine.manifests(self.settings, environments or self.environments(foreign=True), self.reporter)

    def unpack(
        self,
        file: StrPath,
        name: str | None = None,
        *,
        prefix: str | None = None,
        others: Sequence[StrPath] = (),
        mount: bool = False,
        require_signature: bool | None = None,
        allowed_signers: StrPath | None = None,
    ) -> Environment:
        """Make an environment from an archive, every byte checked, relocated to its place here.

        ``name`` defaults to the archive's. ``prefix`` is the prefix under which another machine or
        container sees the environment. What a delta builds on is taken from the environments here, and from the
        archives ``others``. Archives of conda-pack and pixi-pack are taken as well. With
        ``require_signature`` (default: as the settings say, or with ``allowed_signers``) somebody whom the file
        ``allowed_signers`` names must have signed it. With ``mount`` a squashfs image is not unpacked but mounted, for
        reading only; the image has to stay where it is.
        """
        if mount and others:
            raise UsageError("what is mounted takes nothing from other archives", hint="Leave out --mount or --from")
        signers, required = self._signers(require_signature, allowed_signers)
        return self._unpacked(Path(file), name, prefix, signers, required, others, mount=mount)

    def pull(
        self,
        address: str,
        name: str | None = None,
        *,
        prefix: str | None = None,
        require_signature: bool | None = None,
        allowed_signers: StrPath | None = None,
    ) -> Environment:
        """``unpack`` for an archive that lies elsewhere: http(s), ssh, ``host:path``, or a URL that fsspec knows.

        Only what is needed of it is fetched, unless somebody must have signed it. When the way breaks off, the
        same again goes on from there.
        """
        from trainenv.archives.shipping import pulling

        signers, required = self._signers(require_signature, allowed_signers)
        with pulling.at_hand(self.settings, address, self.reporter, complete=required) as archive:
            return self._unpacked(archive, name, prefix, signers, required)

    def push(
        self,
        environment: Environment,
        address: str,
        *,
        name: str | None = None,
        replace: bool = False,
        prefix: str | None = None,
        trainenv: str | None = None,
        editable: Editable = "refuse",
        level: int | None = None,
    ) -> Pushed:
        """Bring an environment to another machine (``ssh://…``, ``host:path``), or its archive to any other URL.

        ``name`` is its name there, ``prefix`` the one under which yet another machine or container sees it there, and
        ``replace`` puts it in the place of the one of that name. ``trainenv`` is the program there, by default
        looked for; ``"none"`` does without it. When the way breaks off, the same again goes on from there.
        """
        from trainenv import archives, locks
        from trainenv.archives.shipping import addresses, pushing

        called = checked_name(name or environment.name, "environment")

        choice = archives.Choice((), False, editable, False, self.settings)

        def pack(output: Path, there: OtherSide | None) -> Archive:
            with locks.in_use(environment.prefix):
                return archives.pack(
                    environment.prefix,
                    output,
                    name=environment.name,
                    level=level,
                    choice=choice,
                    against=there,
                    reporter=self.reporter,
                )

        wish = pushing.Wish(called, prefix, replace, trainenv)
        return pushing.push(self.settings, environment, addresses.parse(address), wish, pack, self.reporter)

    def _signers(self, required: bool | None, signers: StrPath | None) -> tuple[Path | None, bool]:
        """Who may sign, and whether one of them must have."""
        if required is None:
            required = self.settings.require_signature or signers is not None
        return self.settings.allowed_signers if signers is None else Path(signers), required

    def _unpacked(
        self,
        archive: Path | ByteSource,
        name: str | None,
        prefix: str | None,
        signers: Path | None,
        required: bool,
        others: Sequence[StrPath] = (),
        *,
        mount: bool = False,
    ) -> Environment:
        from contextlib import ExitStack

        from trainenv import archives
        from trainenv.archives import signing
        from trainenv.archives.foreign.recognise import recognise
        from trainenv.environments import environment, registry

        options: dict[str, Any] = {"name": name, "prefix": prefix, "reporter": self.reporter}
        with ExitStack() as stack:
            if required and isinstance(archive, Path):
                proof = signing.required(archive, signers)
                found, options["confirm"] = stack.enter_context(proof)
                self.reporter.notice(f"signed by {found.signer} with {found.key}")
            if mount and isinstance(archive, Path):
                from trainenv.archives.mounting import mount_environment

                made = mount_environment(self.settings, archive, **options)
            elif isinstance(archive, Path) and (kind := recognise(archive)):
                from trainenv.archives.foreign.unpacking import unpack_foreign

                made = unpack_foreign(self.settings, archive, kind, **options)
            else:
                options["others"] = list(map(Path, others))
                made = archives.unpack_environment(self.settings, archive, **options).name
        registry.register(self.settings.prefix_of(made))
        return environment.get(self.settings, made)

    def signing_key(self, key: StrPath | None = None) -> Path:
        """The SSH key that ``sign`` will use: ``key``, else the user's own. Raises ``UsageError`` without one."""
        from trainenv.archives import signing

        return signing.signing_key(None if key is None else Path(key))

    def sign(self, file: StrPath, key: StrPath | None = None) -> Path:
        """Sign an archive with an SSH key; returns the signature's file, ``FILE.sig``. See ``signing_key``."""
        from trainenv.archives import signing

        return signing.sign(Path(file), None if key is None else Path(key))

    def signature(
        self, file: StrPath, *, allowed_signers: StrPath | None = None, verify: bool = False
    ) -> Signature | None:
        """The signature beside an archive, None without one; with ``verify`` held against every byte of it."""
        from trainenv.archives import signing

        signers = Path(allowed_signers) if allowed_signers is not None else self.settings.allowed_signers
        return signing.signature_of(Path(file), signers, verify=verify)

    def inspect(self, file: StrPath, *, verify: bool = False) -> Archive:
        """What an archive holds; with ``verify`` every byte of it is checked.

        ``file`` may be an address as ``pull`` takes it: of an archive of trainenv's only its end is fetched then.
        """
        from trainenv.archives.shipping import addresses, pulling

        if isinstance(file, str) and addresses.is_remote(file):
            with pulling.at_hand(self.settings, file, self.reporter) as archive:
                return replace(self._inspected(archive, verify), address=addresses.parse(file).name)
        return self._inspected(Path(file), verify)

    def _inspected(self, archive: Path | ByteSource, verify: bool) -> Archive:
        from trainenv import archives
        from trainenv.archives.foreign.recognise import recognise

        if isinstance(archive, Path) and (kind := recognise(archive)):
            from trainenv.archives.foreign import summary

            return summary.inspect(archive, kind, verify=verify, reporter=self.reporter)
        if verify:
            archives.verify_archive(archive, reporter=self.reporter)
        return archives.open_archive(archive)

    def origins(self, archive: Archive) -> Origins | None:
        """Which files of an archive environments here have, and which are new; None for another program's archive."""
        from trainenv.archives import unpacking
        from trainenv.archives.foreign.summary import ForeignArchive

        return None if isinstance(archive, ForeignArchive) else unpacking.look_around(self.settings, archive.manifest)

    def host(self) -> Host:
        """What this machine has that environments may need."""
        from trainenv import archives

        return archives.this_host(self.settings.envs_dir)

    def host_checks(self, archive: Archive, host: Host | None = None) -> list[HostCheck]:
        """Each need of an archive beside what ``host`` has, by default this machine."""
        from trainenv import archives

        return archives.host_checks(archive.manifest, host or self.host())

    # Methods and tasks

    def methods(self) -> list[Method | BrokenMethod]:
        """All training methods, by name; one whose file is wrong comes with its ``error``."""
        from trainenv.training import list_methods

        return list_methods(self.settings.methods_dir)

    def method(self, name: str) -> Method:
        """One training method. Raises ``MethodError``."""
        from trainenv.training import load_method

        return load_method(self.settings.methods_dir, name)

    def new_method(self, name: str, *, conda_env: str | None = None, source: str | None = None) -> Method:
        """Make a method from method ``source``, or from a template that trains at once.

        ``conda_env`` defaults to what ``source`` names, else to the workspace's only environment.
        """
        from trainenv.training import new_method

        if conda_env is None and source is None and len(names := [each.name for each in self.environments()]) == 1:
            conda_env = names[0]
        found = None if source is None else self.method(source)
        return new_method(self.settings.methods_dir, name, conda_env, found)

    def set_environment(self, method: str, conda_env: str, *, stage: str | None = None) -> Method:
        """Let a method, or one stage of it, run in another environment."""
        from trainenv.training import set_environment

        return set_environment(self.method(method), conda_env, stage)

    def methods_naming(self, conda_env: str) -> list[str]:
        """The training methods that name environment ``conda_env`` for a stage."""
        from trainenv.training import BrokenMethod, method_environment

        return [
            method.name
            for method in self.methods()
            if not isinstance(method, BrokenMethod) and conda_env in method_environment.names_in(method)
        ]

    def validate(self, method: str) -> list[str]:
        """What keeps a method from running, in words with file, line and column; empty if nothing does."""
        from trainenv.training import problems

        prefixes = {environment.name: environment.prefix for environment in self.environments(foreign=True)}
        return problems(self.settings.methods_dir, method, prefixes)

    def start(
        self,
        method: str,
        given: Mapping[str, object] | None = None,
        /,
        *,
        stage: str = "train",
        conda_env: str | None = None,
        name: str | None = None,
        executor: str = "local",
        resources: Mapping[str, object] | None = None,
        **parameters: object,
    ) -> Task:
        """Start a task; it runs on by itself. ``name`` is what to call it, ``executor`` what runs it.

        ``resources`` say otherwise than the method what it takes: ``{"gpus": 2, "memory": "8GB", "time": "2h"}``.

        Parameters come by keyword, or in ``given`` where one is called like an argument of this method.
        """
        from trainenv.training import checked_parameters, method_environment, start

        found = self.method(method)
        values = {**(given or {}), **parameters}
        checked_parameters(found, values, stage)
        environment, prefix = method_environment.find(self.settings, found, stage, self.reporter, conda_env)
        return start(
            self.settings,
            found,
            values,
            stage=stage,
            conda_env=environment,
            name=name,
            prefix=prefix,
            executor=executor,
            resources=resources,
        )

    def train(
        self,
        method: str,
        given: Mapping[str, object] | None = None,
        /,
        *,
        stage: str = "train",
        conda_env: str | None = None,
        name: str | None = None,
        executor: str = "local",
        resources: Mapping[str, object] | None = None,
        **parameters: object,
    ) -> Task:
        """Start a task and wait for its end. See ``start``."""
        values = {**(given or {}), **parameters}
        return self.start(
            method, values, stage=stage, conda_env=conda_env, name=name, executor=executor, resources=resources
        ).wait()

    def rerun(
        self,
        task: Task,
        given: Mapping[str, object] | None = None,
        /,
        *,
        as_is: bool = False,
        name: str | None = None,
        **parameters: object,
    ) -> Task:
        """Start a task again with the same code, parameters and lock; it runs on by itself.

        Parameters that are given replace its own (see ``start``). Where its environment is not as it was, one is
        made from its lock, unless ``as_is``. ``differences`` says beforehand what is otherwise now.
        """
        from trainenv.training.rerun import rerun

        values = {**(given or {}), **parameters}
        return rerun(self.settings, task, values, self.reporter, as_is=as_is, name=name)

    def differences(self, task: Task) -> Differences:
        """What is otherwise now than when a task ran: code, packages, host."""
        from trainenv.training.rerun import differences

        task.require_folder()
        return differences(self.settings, task)

    def waiting(self, task: Task) -> Iterator[Task]:
        """A task each time that it stands otherwise in its queue, until it waits no more."""
        from trainenv.training import waiting

        return waiting(task)

    def follow(self, task: Task) -> Iterator[Event]:
        """What a task writes, as it comes, until it ends."""
        from trainenv.training import follow

        return follow(task)

    def log(self, task: Task, *, follow: bool = False) -> Iterator[str]:
        """A task's log as a terminal would show it: progress bars as one line each; ``output`` has the bytes.

        With ``follow`` it comes as it is written, until the task ends.
        """
        from trainenv.training import display

        return display.shown(self.output(task, follow=follow), live=follow)

    def output(self, task: Task, *, follow: bool = False) -> Iterator[bytes]:
        """A task's log as it was written, in pieces of some kilobytes; with ``follow`` until the task ends."""
        from trainenv.training import output

        if follow:
            yield from output(task)
            return
        with task.log_file.open("rb") as log:
            while piece := log.read(_PIECE_BYTES):
                yield piece

    def cancel(self, task: Task) -> Task:
        """End a running task."""
        from trainenv.training import cancel

        return cancel(task)

    def cancel_tasks(self, tasks: Sequence[Task]) -> list[Task]:
        """End running tasks, all at once; the error about one that doesn't run comes when the others have ended."""
        from trainenv.training import cancel_all

        return cancel_all(tasks)

    def metrics(self, task: Task) -> list[dict[str, int | float | None]]:
        """All that a task measured, a record for each line of metrics in its log."""
        from trainenv.training import metrics

        task.require_folder()
        return metrics.read(str(task.metrics_file))

    def compare(self, tasks: Sequence[Task]) -> Comparison:
        """Tasks side by side: parameters, packages of their environments, last metrics."""
        from trainenv.training.comparison import compared

        return compared(tasks)

    def draw(self, tasks: Sequence[Task], output: StrPath) -> None:
        """Draw what tasks measured into a PNG or SVG file: one panel a metric, one line a task."""
        from trainenv.training import draw

        for task in tasks:
            task.require_folder()
        draw(tasks, Path(output))

    def drawn(self, tasks: Sequence[Task], width: int = 80, *, colours: bool = False) -> str:
        """What tasks measured, drawn for a terminal of ``width`` columns. Raises ``TaskError`` if there is nothing."""
        from trainenv.training import curves, terminal_chart

        for task in tasks:
            task.require_folder()
        found = curves.panels(tasks)
        if not found:
            raise TaskError("there is nothing to draw", cause="no task has metrics yet")
        return "\n".join(terminal_chart.draw(found, width, colours=colours))

    def export_tasks(self, tasks: Sequence[Task], output: StrPath, *, outputs: bool = True) -> None:
        """Write tasks into a ``.csv`` or ``.json`` file, or whole into a ``.tar.gz``, ``.tar.zst`` or ``.tar``.

        Archives lack what is in the tasks' ``outputs`` folders unless ``outputs``.
        """
        from trainenv.training import export

        export.write(tasks, Path(output), self.reporter, outputs=outputs)

    def remove_tasks(self, tasks: Sequence[Task]) -> None:
        """Remove ended tasks with their logs, metrics and outputs. Raises ``TaskError`` if one still runs."""
        from trainenv.training import announcing, remove_tasks

        remove_tasks(tasks)
        for task in tasks[:1]:
            announcing.announce(task.to_json())

    def tasks(
        self,
        *,
        method: str | None = None,
        status: str | None = None,
        conda_env: str | None = None,
        name: str | None = None,
        since: str | None = None,
        where: Sequence[str] = (),
        limit: int | None = None,
    ) -> list[Task]:
        """Tasks, newest first: all, or those for which all that is said holds. Raises ``DatabaseError``.

        ``since`` is a time or how long ago (``"2h"``), ``where`` are conditions (``"loss<0.1"``). Example::

            workspace.tasks(method="digits_mlp", status="done", since="7d", where=["accuracy>0.9"], limit=10)
        """
        from trainenv.training.selection import selected

        wanted = selected(
            method=method, status=status, conda_env=conda_env, name=name, since=since, where=where, limit=limit
        )
        return [summary.task() for summary in self.task_summaries(wanted, whole=True)]

    def task_summaries(self, wanted: Selection, *, whole: bool = False) -> list[Summary]:
        """What a list shows of tasks, in a fraction of the time; ``whole`` brings their records as JSON as well."""
        from trainenv.training import index

        return index.select(self.settings, wanted, whole=whole)

    def task(self, identifier: str, *, sole: bool = False) -> Task:
        """One task, by its id, the start of it, or its name; of several so called the newest.

        Raises ``TaskError``, where it must be the ``sole`` one also if there are several.
        """
        from trainenv.training import current, index

        found = index.find(self.settings, identifier, sole=sole)
        return current(found) if found.active and found.executor != "local" else found

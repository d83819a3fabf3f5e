"""Make and change environments: specification → lock → prefix, in staging, swapped in at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainenv import locks
from trainenv.channels import condarc
from trainenv.channels.target import Target
from trainenv.credentials import without_credentials
from trainenv.environments import (
    at_hand,
    earlier,
    from_lock,
    given,
    link_scripts,
    notes,
    registry,
    relocated,
    solution,
    wheels,
)
from trainenv.environments.lock import write_lock
from trainenv.environments.locked import same_version
from trainenv.environments.ownership import changed, forget_needs, losing, same_packages, settle_ownership, snapshot
from trainenv.environments.preview import Plan, plan
from trainenv.environments.records import (
    ENVIRONMENT_NOTE,
    canonical_name,
    distributions,
    pypi_distributions,
    read_note,
    write_note,
)
from trainenv.environments.requests import blame
from trainenv.environments.requirement_lines import build_options, uv_variables
from trainenv.environments.resolving import Resolution
from trainenv.environments.solution import Solution
from trainenv.environments.specification import Specification, named_sources, remarks, requested_names
from trainenv.environments.staging import Staging, require, staged
from trainenv.errors import DeclinedError, InstallError, InterpreterError, SolveError, SpecificationError, Terminated
from trainenv.progress import Reporter, gathered
from trainenv.settings import Settings


@dataclass(frozen=True)
class Manner:
    """How a change is made, whatever it is.

    ``confirm`` is asked with the plan before anything is fetched, and may say no. ``freeze_conda``
    forbids PyPI packages to replace what conda owns. ``target`` is what packages are chosen for.
    """

    if_busy: locks.IfBusy = locks.REFUSE
    freeze_conda: bool = False
    confirm: Callable[[Plan], bool] | None = None
    target: Target = field(default_factory=Target)


PLAIN = Manner()


def create(
    settings: Settings, name: str, specification: Specification, reporter: Reporter, manner: Manner = PLAIN
) -> None:
    """Make environment ``name``. Raises a ``TrainenvError``, leaving nothing behind, when it can't."""
    require(settings, name, exists=False)
    settings = condarc.applied(settings)
    _give_remarks(specification, reporter)
    if manner.confirm is not None:
        with _explained(specification):
            found = solution.for_create(settings, name, specification, reporter, manner.target)
            planned = plan(settings, name, found, reporter)
        _ask(manner.confirm, planned)
    manner.target.require_runnable()
    with (
        _explained(specification),
        _interruptible(f"environment {name!r} was not made"),
        staged(settings, name, if_busy=manner.if_busy) as staging,
        gathered(reporter, f"create {name}") as together,
    ):
        found = solution.for_create(settings, name, specification, together, manner.target)
        _fill(settings, staging, found, together, manner)
    registry.register(settings.prefix_of(name))


def install(
    settings: Settings,
    name: str,
    specification: Specification,
    reporter: Reporter,
    manner: Manner = PLAIN,
    *,
    upgrade: bool = False,
) -> None:
    """Add packages to environment ``name``; with ``upgrade`` the named PyPI ones as new as may be."""
    settings = condarc.applied(settings)
    _give_remarks(specification, reporter)
    newer = {canonical_name(each) for each in requested_names(specification)} if upgrade else ()

    def solve(prefix: Path, reporter: Reporter) -> Solution:
        return solution.for_install(settings, prefix, specification, reporter, newer, manner.target)

    with _explained(specification):
        _change(settings, name, solve, reporter, manner)


def remove(settings: Settings, name: str, packages: Sequence[str], reporter: Reporter, manner: Manner = PLAIN) -> None:
    """Take packages, and what depends on them, out of environment ``name``."""
    if not packages:
        raise SpecificationError("nothing was asked for", hint=f"Name packages: trainenv remove -n {name} PACKAGE")
    from trainenv.environments import removal

    _change(settings, name, lambda prefix, _: removal.for_removal(settings, prefix, packages), reporter, manner)


def update(settings: Settings, name: str, packages: Sequence[str], reporter: Reporter, manner: Manner = PLAIN) -> None:
    """Bring packages of environment ``name``, all if none are named, to what its specification allows at most."""
    from trainenv.environments import removal

    settings = condarc.applied(settings)

    def solve(prefix: Path, reporter: Reporter) -> Solution:
        installed = removal.Installed.of(prefix)
        in_conda, in_pypi = installed.split(packages or [*installed.conda, *installed.pypi])
        return solution.for_update(settings, prefix, sorted(in_conda), in_pypi, reporter, manner.target)

    _change(settings, name, solve, reporter, manner)


def _change(
    settings: Settings, name: str, solve: Callable[[Path, Reporter], Solution], reporter: Reporter, manner: Manner
) -> None:
    """Change environment ``name`` on a clone that replaces it when all went well."""
    require(settings, name, exists=True)
    if manner.confirm is not None:
        _ask(manner.confirm, plan(settings, name, solve(settings.prefix_of(name), reporter), reporter))
    with (
        _interruptible(f"environment {name!r} is as it was"),
        staged(settings, name, replaces=True, if_busy=manner.if_busy) as staging,
        gathered(reporter, f"change {name}") as together,
    ):
        _fill(settings, staging, solve(staging.path, together), together, manner)
    registry.register(settings.prefix_of(name))


def _give_remarks(specification: Specification, reporter: Reporter) -> None:
    for line in remarks(specification):
        reporter.notice(line)


@contextmanager
def _explained(specification: Specification) -> Iterator[None]:
    """Where the block finds that the specification can't be met, say which lines of its files ask for it."""
    try:
        yield
    except (SolveError, InstallError, InterpreterError) as error:
        blame(error, specification)
        raise


@contextmanager
def _interruptible(outcome: str) -> Iterator[None]:
    """Let an interruption of the block say what it left, once that is true."""
    try:
        yield
    except (KeyboardInterrupt, Terminated) as end:
        end.args = (*end.args, outcome)
        raise


def _ask(confirm: Callable[[Plan], bool], planned: Plan) -> None:
    if not confirm(planned):
        raise DeclinedError("nothing was changed")


def _fill(settings: Settings, staging: Staging, found: Solution, reporter: Reporter, manner: Manner) -> None:
    """Bring the staging prefix to what the solution says."""
    prefix = staging.path
    original = snapshot(prefix)
    note = read_note(prefix, ENVIRONMENT_NOTE)
    former = notes.history_entries(prefix)
    replaced: dict[str, Any] = {
        key: entry
        for key, entry in note.get("replaced", {}).items()
        if canonical_name(entry.get("distribution", key)) not in found.uninstall
    }
    has_to_fit = bool(former) and (found.resolves_pypi or bool(pypi_distributions(prefix)))
    unmet = wheels.unmet(prefix, cache_dir=settings.cache_dir) if has_to_fit else []
    if found.records is not None:
        link_scripts.install(
            settings,
            staging,
            [record for record in found.records if record.name.normalized not in replaced],
            specs=found.specs,
            reporter=reporter,
            access=found.sources.access,
        )
        if found.specification.locked:
            from_lock.complete_records(prefix, found.specification.locked)
        notes.publish_records(prefix)
    before = original if found.records is None else snapshot(prefix)
    after = before
    if found.uninstall or found.resolves_pypi or found.specification.locked:
        _fill_pypi(settings, staging, found, note, reporter, manner)
        after = snapshot(prefix)
    if manner.freeze_conda and (names := losing(prefix, before, after)):
        raise _frozen(f"files of conda's {', '.join(names)}")
    relocated.forget(prefix, changed(original, after))
    replaced.update(settle_ownership(prefix, staging.target_prefix, before, after))
    forget_needs(prefix, replaced)
    relocated.write_carried_prefix(prefix, staging.target_prefix)
    if has_to_fit:
        _require_met(set(wheels.unmet(prefix, cache_dir=settings.cache_dir)) - set(unmet))
    notes.write_variables(prefix, found.specification.variables)
    write_note(
        prefix,
        ENVIRONMENT_NOTE,
        {
            "version": 1,
            "specs": list(found.specs),
            "requested": earlier.to_note(note, found.specification, distributions(prefix), found.uninstall),
            "channels": [without_credentials(channel) for channel in found.sources.names],
            "host_fallback": without_credentials(found.sources.fallback) or None,
            "target": found.target.to_note(),
            "replaced": replaced,
            "projects": notes.projects(prefix),
            "package_sources": list(dict.fromkeys([*_package_sources(note), *named_sources(found.specification)])),
            "size": sum(state.size for state in after.values()),
        },
    )
    notes.write_history(prefix, former, found.specs)
    write_lock(prefix, found.sources.channels)
    if former and not found.specification.variables and same_packages(original, after):
        staging.is_new_state = False
        reporter.notice("all of that was there: no package has changed")


def _fill_pypi(
    settings: Settings,
    staging: Staging,
    found: Solution,
    note: Mapping[str, Any],
    reporter: Reporter,
    manner: Manner,
) -> None:
    prefix, specification, access = staging.path, found.specification, found.sources.access
    keep_open = (staging.lock_descriptor,)
    if found.uninstall:
        with reporter.step("remove PyPI packages"):
            wheels.uninstall(prefix, found.uninstall, cache_dir=settings.cache_dir, keep_open=keep_open)
    if found.resolves_pypi:
        installed = {each.key: each.version for each in distributions(prefix)}
        with reporter.step("resolve PyPI requirements"):
            Resolution(
                specification,
                pypi_distributions(prefix),
                preferred={key: version for key, version in installed.items() if key not in found.upgrade},
                given={key: item for key, item in given.of_prefix(prefix).items() if key not in found.upgrade},
                python=[*wheels.interpreter(prefix), *found.target.uv_options()],
                earlier=earlier.in_force(note, specification, pypi_distributions(prefix)),
                sources=_package_sources(note),
                cache_dir=settings.cache_dir,
                keep_open=keep_open,
                access=access,
                reporter=reporter,
            ).write(prefix)
    elif specification.locked is None or not from_lock.write_pylock(
        prefix, specification.locked, at_hand.folders(settings, specification.channels)
    ):
        return
    if manner.freeze_conda:
        _refuse_names_of_conda(prefix)
    wheels.install(
        prefix,
        options=[*found.target.uv_platform(), *build_options(specification.requirements)],
        variables=uv_variables(specification.requirements),
        folder=specification.folder,
        cache_dir=settings.cache_dir,
        keep_open=keep_open,
        reporter=reporter,
        access=access,
    )


def _package_sources(note: Mapping[str, Any]) -> list[str]:
    """Where earlier requirements said that packages are, as lines in pip's format."""
    return [str(line) for line in note.get("package_sources", [])]


def _refuse_names_of_conda(prefix: Path) -> None:
    """Raise where the PyPI packages to be installed replace a distribution that conda brought."""
    pypi = {each.key for each in pypi_distributions(prefix)}
    owned = {each.key: each.version for each in distributions(prefix) if each.key not in pypi}
    taken = [
        f"{wheel.name} {owned[wheel.name]} (by {wheel.version})"
        for wheel in wheels.locked(prefix)
        if wheel.name in owned and not same_version(wheel.version, owned[wheel.name])
    ]
    if taken:
        raise _frozen(f"conda's {', '.join(taken)}")


def _frozen(what: str) -> InstallError:
    return InstallError(
        f"PyPI packages would replace {what}",
        cause="--freeze-conda forbids it",
        hint="Ask conda for the version that is needed, or leave --freeze-conda out; nothing was changed",
    )


def _require_met(broken: Iterable[str]) -> None:
    """Raise where packages miss what they need: uv knows the needs of conda's Python packages as well."""
    if broken := sorted(broken):
        raise SolveError(
            "the change would break what is installed",
            cause="; ".join(broken),
            hint="Change or remove these as well; nothing was changed",
        )

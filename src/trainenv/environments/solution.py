"""What a change comes to, before anything is installed: conda's part solved, PyPI's part to be resolved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainenv.channels import conda
from trainenv.channels.access import Access
from trainenv.channels.target import Target
from trainenv.credentials import without_credentials
from trainenv.environments import at_hand, from_lock
from trainenv.environments.earlier import tell_apart
from trainenv.environments.records import (
    ENVIRONMENT_NOTE,
    conda_records,
    pypi_distributions,
    python_version,
    read_note,
)
from trainenv.environments.sources import Sources, channels_of_records, channels_of_specs, find_sources
from trainenv.environments.specification import Specification
from trainenv.errors import SolveError, SpecificationError
from trainenv.progress import Reporter
from trainenv.settings import Settings

if TYPE_CHECKING:
    from rattler import PrefixRecord, RepoDataRecord


@dataclass(frozen=True)
class Solution:
    """Everything that must be known to make or change a prefix.

    ``specs`` is what conda was asked for, now and before. ``records`` are all conda packages that the
    prefix shall have, None to leave them alone. ``specification`` asks for PyPI packages;
    ``upgrade`` are those, by canonical name, whose installed version is not preferred, ``uninstall``
    those that go. ``target`` is what they are chosen for.
    """

    specs: tuple[str, ...]
    sources: Sources
    records: Sequence[RepoDataRecord] | None
    specification: Specification
    upgrade: frozenset[str] = frozenset()
    uninstall: tuple[str, ...] = ()
    target: Target = field(default_factory=Target)

    @property
    def resolves_pypi(self) -> bool:
        return self.specification.wants_pypi or bool(self.upgrade)


def for_create(
    settings: Settings, name: str, specification: Specification, reporter: Reporter, target: Target | None = None
) -> Solution:
    """What a new environment ``name`` shall hold, for this machine or ``target``."""
    target = (target or Target()).over(specification.locked.target if specification.locked else Target())
    specs = [without_credentials(spec) for spec in specification.conda]
    locked = specification.locked
    if locked is not None:
        from_lock.require_alone(locked, specs, specification.wants_pypi)
    wants_python = specification.wants_pypi or specification.locks_pypi
    if wants_python and not specification.locks_conda and not _names_python(specs):
        specs.append(f"python {specification.requires_python or ''}".rstrip())
    if not specs and not specification.locks_conda:
        raise SpecificationError(
            "nothing was asked for",
            hint=f"Name packages: trainenv create -n {name} python=3.11, or -f environment.yml, or -r requirements.txt",
        )
    records: Sequence[RepoDataRecord]
    if locked is not None and specification.locks_conda:
        locked = at_hand.conda_packages(locked, at_hand.folders(settings, specification.channels))
        found = from_lock.sources(settings, locked)
        access = Access.of(settings, from_lock.addresses(locked))
        sources = Sources(tuple(found), tuple(source.name for source in found), access=access)
        records = from_lock.records(settings, locked, reporter)
        specs = from_lock.roots(records)
    else:
        names = [*(specification.channels or settings.channels), *channels_of_specs(specification.conda)]
        sources = find_sources(settings, names, specs, reporter, target)
        records = _solve(settings, sources, specs, reporter, target)
    if specification.wants_pypi and not any(record.name.normalized == "python" for record in records):
        raise SolveError("PyPI packages need a python in the environment", hint="Add python to the specification")
    _require_meant(specification, records)
    return Solution(tuple(specs), sources, records, specification, target=target)


def for_install(
    settings: Settings,
    prefix: Path,
    specification: Specification,
    reporter: Reporter,
    upgrade: Iterable[str] = (),
    target: Target | None = None,
) -> Solution:
    """What ``prefix`` shall hold with ``specification`` added; what is there is kept where it can be.

    What ``target`` leaves open is as in earlier changes.
    """
    if specification.locked:
        from_lock.require_pypi_only(specification.locked, specification.wants_pypi)
    if not specification.conda and not specification.wants_pypi and not specification.locks_pypi:
        raise SpecificationError(
            "nothing was asked for",
            hint="Name packages: trainenv install -n NAME PACKAGE, or -r requirements.txt",
        )
    note = read_note(prefix, ENVIRONMENT_NOTE)
    earlier = _kept_specs(earlier_specs(prefix, note), specification.conda)
    specs = [*map(without_credentials, specification.conda), *earlier]
    _refuse_replaced(note, specification.conda)
    target = _continued(target, note, reporter)
    if not specification.conda:
        _require_meant(specification, [], python_version(prefix))
        sources = known_sources(settings, note)
        return Solution(tuple(specs), sources, None, specification, frozenset(upgrade), target=target)
    known = _known_channels(note) or channels_of_records(prefix) or settings.channels
    named = [*specification.channels, *channels_of_specs([*specification.conda, *specs])]
    spare = known if specification.channels else ()
    sources = find_sources(settings, [*named, *known], specs, reporter, spare=spare)
    try:
        records = _solve(settings, sources, specs, reporter, target, installed_records(prefix))
    except SolveError as error:
        tell_apart(error, {conda.spec_name(spec) for spec in conda.match_specs(earlier)})
        raise
    _require_same_python(prefix, records)
    _require_meant(specification, records)
    return Solution(tuple(specs), sources, records, specification, frozenset(upgrade), target=target)


def for_update(
    settings: Settings,
    prefix: Path,
    conda_names: Sequence[str],
    pypi_names: Iterable[str],
    reporter: Reporter,
    target: Target | None = None,
) -> Solution:
    """What ``prefix`` shall hold with the named packages as new as its specification allows.

    Python keeps its minor version, as with conda: the packages for it would be lost.
    """
    note = read_note(prefix, ENVIRONMENT_NOTE)
    specs = earlier_specs(prefix, note)
    nothing = Specification()
    target = _continued(target, note, reporter)
    if not conda_names:
        sources = known_sources(settings, note)
        return Solution(tuple(specs), sources, None, nothing, frozenset(pypi_names), target=target)
    names = _known_channels(note) or channels_of_records(prefix) or settings.channels
    sources = find_sources(settings, [*names, *channels_of_specs(specs)], specs, reporter)
    locked = [record for record in installed_records(prefix) if record.name.normalized not in conda_names]
    python = python_version(prefix)
    pinned = [f"python {'.'.join(python.split('.')[:2])}.*"] if python else []
    records = _solve(settings, sources, [*specs, *pinned], reporter, target, locked)
    return Solution(tuple(specs), sources, records, nothing, frozenset(pypi_names), target=target)


def _continued(target: Target | None, note: Mapping[str, Any], reporter: Reporter) -> Target:
    """``target`` over what the environment was made for; says so where that leaves newer packages out."""
    found = (target or Target()).over(Target.of_note(note))
    if found.exclude_newer and (target is None or target.exclude_newer is None):
        reporter.notice(
            f"packages newer than {found.exclude_newer} are left out, as was asked for earlier; "
            "--exclude-newer none lets them in"
        )
    return found


def earlier_specs(prefix: Path, note: Mapping[str, Any]) -> list[str]:
    """What was asked for until now.

    Of a prefix that conda or another tool made nobody knows: then it is every package that is there,
    for what nothing asks for is removed.
    """
    if "specs" in note:
        return [str(spec) for spec in note["specs"]]
    return [record.name for record in conda_records(prefix)]


def known_sources(settings: Settings, note: Mapping[str, Any]) -> Sources:
    """The channels of an environment, for a change that asks none of them."""
    return Sources((), tuple(_known_channels(note)), str(note.get("host_fallback") or ""), Access.of(settings))


def installed_records(prefix: Path) -> list[PrefixRecord]:
    from rattler import PrefixRecord

    return [PrefixRecord.from_path(record.path) for record in conda_records(prefix)]


def _known_channels(note: Mapping[str, Any]) -> list[str]:
    return [str(channel) for channel in note.get("channels", [])]


def _solve(
    settings: Settings,
    sources: Sources,
    specs: Sequence[str],
    reporter: Reporter,
    target: Target,
    installed: Sequence[PrefixRecord] = (),
) -> list[RepoDataRecord]:
    with reporter.step("solve"):
        return conda.solve(
            sources.channels,
            specs,
            cache_dir=settings.cache_dir,
            installed=installed,
            access=sources.access,
            target=target,
        )


def _names_python(specs: Sequence[str]) -> bool:
    return any(conda.spec_name(spec) == "python" for spec in conda.match_specs(specs))


def _kept_specs(earlier: Sequence[str], new: Sequence[str]) -> list[str]:
    """Earlier requests that the new ones do not speak of."""
    spoken_of = {conda.spec_name(spec) for spec in conda.match_specs(new)}
    return [
        text
        for text, spec in zip(earlier, conda.match_specs(earlier), strict=True)
        if conda.spec_name(spec) not in spoken_of
    ]


def _refuse_replaced(note: Mapping[str, Any], specs: Sequence[str]) -> None:
    """A conda package whose files a PyPI package has replaced can't come back beside it."""
    for spec in conda.match_specs(specs):
        if (name := conda.spec_name(spec)) in note.get("replaced", {}):
            raise SolveError(
                f"{spec} can't be installed from a channel",
                cause=f"a PyPI package has replaced conda's {name} here",
                hint=f"Ask for it with `trainenv pip install -n NAME {name}` and its version",
            )


def _require_meant(specification: Specification, records: Sequence[RepoDataRecord], python: str | None = None) -> None:
    """Raise where projects of ``specification`` are for another Python than that of ``records``, else ``python``."""
    from packaging.specifiers import SpecifierSet

    python = next((str(record.version) for record in records if record.name.normalized == "python"), python)
    wanted = specification.requires_python
    if (
        python is None
        or wanted is None
        or not specification.projects
        or SpecifierSet(wanted).contains(python, prereleases=True)
    ):
        return
    files = ", ".join(map(str, specification.projects))
    raise SolveError(
        f"Python {python} does not suit",
        cause=f"{files} is for Python {wanted}",
        hint="Make an environment with that Python",
    )


def _require_same_python(prefix: Path, records: Sequence[RepoDataRecord]) -> None:
    """PyPI packages live in a folder of their Python's minor version, and another one would not find them."""
    former = python_version(prefix)
    new = next((str(record.version) for record in records if record.name.normalized == "python"), None)
    if former is None or new is None or former.split(".")[:2] == new.split(".")[:2]:
        return
    if found := pypi_distributions(prefix):
        raise SolveError(
            f"Python can't change from {former} to {new} here",
            cause=f"{len(found)} packages from PyPI, such as {found[0].key}, are installed for the former",
            hint="Create another environment: `trainenv env export` writes down what this one has",
        )

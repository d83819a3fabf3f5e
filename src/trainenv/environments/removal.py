"""What goes when packages are removed: they, and what can't work without them.

Nothing is solved and no channel is asked: what stays is there already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainenv.channels import conda
from trainenv.channels.target import Target
from trainenv.environments.records import (
    ENVIRONMENT_NOTE,
    Distribution,
    canonical_name,
    conda_name,
    conda_records,
    pypi_distributions,
    python_version,
    read_note,
)
from trainenv.environments.solution import Solution, earlier_specs, installed_records, known_sources
from trainenv.environments.specification import Specification
from trainenv.errors import SolveError, SpecificationError
from trainenv.settings import Settings

if TYPE_CHECKING:
    from rattler import PrefixRecord


@dataclass(frozen=True)
class Installed:
    """The packages of a prefix by name: ``conda`` ones, and ``pypi`` ones by canonical name."""

    conda: Mapping[str, PrefixRecord]
    pypi: Mapping[str, Distribution]

    @classmethod
    def of(cls, prefix: Path) -> Installed:
        records = conda_records(prefix)
        return cls(
            {record.name.normalized: record for record in installed_records(prefix)},
            {distribution.key: distribution for distribution in pypi_distributions(prefix, records)},
        )

    def split(self, names: Iterable[str]) -> tuple[set[str], set[str]]:
        """Which of ``names`` are conda's and which are PyPI's; one may be both. Raises for one that is neither."""
        names = list(dict.fromkeys(names))
        in_conda = {name.lower() for name in names} & self.conda.keys()
        in_pypi = {canonical_name(name) for name in names} & self.pypi.keys()
        for name in names:
            if name.lower() not in in_conda and canonical_name(name) not in in_pypi:
                raise _unknown(name, [*self.conda, *self.pypi])
        return in_conda, in_pypi


def for_removal(settings: Settings, prefix: Path, names: Sequence[str]) -> Solution:
    """What ``prefix`` shall hold without the packages ``names`` and all that depends on one of them.

    conda packages that only these needed go as well, as with conda. Raises ``SpecificationError``
    for a package that is not there, ``SolveError`` for one that Python needs, and Python.
    """
    installed = Installed.of(prefix)
    in_conda, in_pypi = installed.split(names)
    provided = _provided(prefix)
    gone = _with_dependents(in_conda, installed.conda)
    if "python" in gone:
        raise _python_needs(in_conda, prefix)
    lost = in_pypi | {key for key, owner in provided.items() if owner in gone}
    lost_pypi = {key for key in _pypi_dependents(lost, installed.pypi) if key in installed.pypi}
    note = read_note(prefix, ENVIRONMENT_NOTE)
    earlier = earlier_specs(prefix, note)
    specs = [
        text
        for text, spec in zip(earlier, conda.match_specs(earlier), strict=True)
        if conda.spec_name(spec) not in gone and conda.spec_name(spec) in installed.conda
    ]
    staying = [found for key, found in installed.pypi.items() if key not in lost_pypi]
    roots = {conda.spec_name(spec) for spec in conda.match_specs(specs)}
    roots |= {provided[name] for found in staying for name in _requires(found) if name in provided}
    kept = _needed(roots, installed.conda) - gone
    return Solution(
        tuple(specs),
        known_sources(settings, note),
        [record for name, record in installed.conda.items() if name in kept] if in_conda else None,
        Specification(),
        uninstall=tuple(sorted(lost_pypi)),
        target=Target.of_note(note),
    )


def _unknown(name: str, known: Iterable[str]) -> SpecificationError:
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1)
    return SpecificationError(
        f"there is no package {name!r} in the environment",
        hint=f"Did you mean {near[0]!r}?" if near else "`trainenv list -n NAME` shows what there is",
    )


def _python_needs(names: set[str], prefix: Path) -> SolveError:
    others = sorted(names - {"python"})
    return SolveError(
        f"{others[0]} can't be removed" if others and "python" not in names else "python can't be removed",
        cause="python depends on it"
        if others and "python" not in names
        else f"everything here runs on Python {python_version(prefix)}",
        hint="Remove the whole environment with `trainenv env remove`, or create another one",
    )


def _with_dependents(names: set[str], records: Mapping[str, PrefixRecord]) -> set[str]:
    return _closed(names, lambda gone: {name for name, record in records.items() if gone & _depends(record)})


def _needed(names: set[str], records: Mapping[str, PrefixRecord]) -> set[str]:
    def next_ones(found: set[str]) -> set[str]:
        return {dependency for name in found if name in records for dependency in _depends(records[name])}

    return _closed(names, next_ones) & records.keys()


def _pypi_dependents(names: set[str], there: Mapping[str, Distribution]) -> set[str]:
    return _closed(names, lambda gone: {key for key, found in there.items() if gone & _requires(found)})


def _closed(names: set[str], more: Callable[[set[str]], set[str]]) -> set[str]:
    """``names``, and what ``more`` finds for them, and so on until it finds nothing new."""
    found = set(names)
    while not (new := more(found)) <= found:
        found |= new
    return found


def _depends(record: PrefixRecord) -> set[str]:
    return {conda_name(spec) for spec in record.depends}


def _requires(distribution: Distribution) -> set[str]:
    """The names that ``distribution`` needs, without what only its extras do."""
    from packaging.requirements import InvalidRequirement, Requirement

    found = set()
    for text in distribution.requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found.add(canonical_name(requirement.name))
    return found


def _provided(prefix: Path) -> dict[str, str]:
    """The conda package that brought each distribution, by canonical name."""
    owners = {path: record.name for record in conda_records(prefix) for path in record.files if _is_metadata(path)}
    from trainenv.environments.records import distributions

    return {
        found.key: owners[f"{found.folder}/METADATA"]
        for found in distributions(prefix)
        if f"{found.folder}/METADATA" in owners
    }


def _is_metadata(path: str) -> bool:
    return path.endswith(".dist-info/METADATA")

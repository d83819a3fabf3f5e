"""Make and change environments: specification → lock → prefix, in staging, swapped in at the end."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainenv.channels import conda
from trainenv.credentials import without_credentials
from trainenv.environments import registry, relocated, wheels
from trainenv.environments.lock import write_lock
from trainenv.environments.ownership import changed, settle_ownership, snapshot
from trainenv.environments.records import conda_records, pypi_distributions, read_note, replace_file, write_note
from trainenv.environments.specification import Specification, named_sources, requested_names
from trainenv.environments.staging import Staging, require, staged
from trainenv.errors import ChannelError, InterpreterError, SolveError, SpecificationError
from trainenv.progress import Reporter
from trainenv.settings import Settings

if TYPE_CHECKING:
    from rattler import PrefixRecord, RepoDataRecord

ENVIRONMENT_NOTE = "environment.json"


@dataclass(frozen=True)
class Sources:
    """The channels of one change. ``fallback`` says why ``host`` stands in for others, or is empty."""

    channels: tuple[conda.Source, ...]
    names: tuple[str, ...]
    fallback: str = ""


def create(settings: Settings, name: str, specification: Specification, reporter: Reporter) -> None:
    """Make environment ``name``. Raises a ``TrainenvError``, leaving nothing behind, when it can't."""
    require(settings, name, exists=False)
    specs = list(specification.conda)
    if specification.wants_pypi and not _names_python(specs):
        specs.append("python")
    if not specs:
        raise SpecificationError(
            "nothing was asked for",
            hint=f"Name packages: trainenv create -n {name} python=3.11, or -f environment.yml, or -r requirements.txt",
        )
    with staged(settings, name) as staging:
        names = [*(specification.channels or settings.channels), *_channels_of_specs(specs)]
        sources = find_sources(settings, names, specs, reporter)
        with reporter.step("solve"):
            records = conda.solve(sources.channels, specs, cache_dir=settings.cache_dir)
        _require_python(specification, records)
        _fill(settings, staging, specification, specs, sources, records, reporter)
    registry.register(settings.prefix_of(name))


def install(settings: Settings, name: str, specification: Specification, reporter: Reporter) -> None:
    """Add packages to environment ``name``, on a clone that replaces it when all went well."""
    require(settings, name, exists=True)
    if not specification.conda and not specification.wants_pypi:
        raise SpecificationError(
            "nothing was asked for",
            hint=f"Name packages: trainenv install -n {name} PACKAGE, or -r requirements.txt",
        )
    with staged(settings, name, replaces=True) as staging:
        note = read_note(staging.path, ENVIRONMENT_NOTE)
        known = [str(channel) for channel in note.get("channels", [])]
        records: Sequence[RepoDataRecord] | None = None
        specs = [*specification.conda, *_kept_specs(_earlier_specs(staging.path, note), specification.conda)]
        _refuse_replaced(note, specification.conda)
        sources = Sources((), tuple(known), str(note.get("host_fallback") or ""))
        if specification.conda:
            names = specification.channels or known or _channels_of_records(staging.path) or settings.channels
            sources = find_sources(settings, [*names, *_channels_of_specs(specs)], specs, reporter)
            with reporter.step("solve"):
                installed = _installed_records(staging.path)
                records = conda.solve(sources.channels, specs, cache_dir=settings.cache_dir, installed=installed)
        _fill(settings, staging, specification, specs, sources, records, reporter)
    registry.register(settings.prefix_of(name))


def find_sources(settings: Settings, names: Sequence[str], specs: Sequence[str], reporter: Reporter) -> Sources:
    """The channels ``names`` as they can be reached now; else ``host``, if that can stand in.

    Raises ``ChannelError`` with the channel and the reason when it can't.
    """
    names = tuple(dict.fromkeys(conda.located(name) for name in names))
    wanted = [name for name in names if name != conda.HOST]
    reached: list[conda.Source] = []
    if wanted:
        with reporter.step(f"reach {', '.join(map(without_credentials, wanted))}"):
            reached, failed = conda.reach(settings, wanted)
        if failed:
            reason = "; ".join(
                f"channel {without_credentials(name)} can't be reached ({why})" for name, why in failed.items()
            )
            if reached or not settings.host_fallback or not _host_can_meet(specs):
                raise ChannelError(
                    reason,
                    hint=f"Name a mirror in {settings.file} under [mirrors], or another channel with -c",
                )
            source = _host_source(settings, specs, reporter, because=reason)
            reporter.notice(f"{reason}: using {conda.HOST}, this machine's own interpreters, instead")
            return Sources((source,), (conda.HOST,), fallback=reason)
    sources = {source.name: source for source in reached}
    if conda.HOST in names:
        sources[conda.HOST] = _host_source(settings, specs, reporter)
    return Sources(tuple(sources[name] for name in names), names)


def _host_source(settings: Settings, specs: Sequence[str], reporter: Reporter, because: str = "") -> conda.Source:
    from rattler import Version, VersionSpec

    from trainenv.channels import host

    python = [spec for spec in conda.match_specs(specs) if _spec_name(spec) == "python"]

    def wanted(version: str) -> bool:
        return all(spec.version is None or VersionSpec(str(spec.version)).matches(Version(version)) for spec in python)

    try:
        channel = host.provide(settings.cache_dir, reporter, wanted)
    except InterpreterError as error:
        asked = f" as {', '.join(map(str, python))}" if python else ""
        message = f"{error.message}{asked}"
        raise InterpreterError(
            f"{because}; {message}" if because else message, cause=error.cause, hint=error.hint
        ) from None
    return conda.Source(conda.HOST, channel.url if channel.url.endswith("/") else f"{channel.url}/")


def _channels_of_specs(specs: Sequence[str]) -> list[str]:
    """The channels that specs such as ``conda-forge::numpy`` name themselves."""
    return [name for name, separator, _ in (spec.partition("::") for spec in specs) if separator]


def _spec_name(spec: Any) -> str:
    return str(spec.name.normalized) if hasattr(spec.name, "normalized") else str(spec.name)


def _names_python(specs: Sequence[str]) -> bool:
    return any(_spec_name(spec) == "python" for spec in conda.match_specs(specs))


def _host_can_meet(specs: Sequence[str]) -> bool:
    return all(_spec_name(spec) in ("python", "pip", "setuptools") for spec in conda.match_specs(specs))


def _require_python(specification: Specification, records: Sequence[RepoDataRecord]) -> None:
    if specification.wants_pypi and not any(record.name.normalized == "python" for record in records):
        raise SolveError("PyPI packages need a python in the environment", hint="Add python to the specification")


def _earlier_specs(prefix: Path, note: Mapping[str, Any]) -> list[str]:
    """What was asked for until now.

    Of a prefix that conda or another tool made nobody knows: then it is every package that is there,
    for what nothing asks for is removed.
    """
    if "specs" in note:
        return [str(spec) for spec in note["specs"]]
    return [record.name for record in conda_records(prefix)]


def _kept_specs(earlier: Sequence[str], new: Sequence[str]) -> list[str]:
    """Earlier requests that the new ones do not speak of."""
    spoken_of = {_spec_name(spec) for spec in conda.match_specs(new)}
    return [
        text
        for text, spec in zip(earlier, conda.match_specs(earlier), strict=True)
        if _spec_name(spec) not in spoken_of
    ]


def _refuse_replaced(note: Mapping[str, Any], specs: Sequence[str]) -> None:
    """A conda package whose files a PyPI package has replaced can't come back beside it."""
    for spec in conda.match_specs(specs):
        if (name := _spec_name(spec)) in note.get("replaced", {}):
            raise SolveError(
                f"{spec} can't be installed from a channel",
                cause=f"a PyPI package has replaced conda's {name} here",
                hint=f"Ask for it in a requirements.txt: -r with the line {name!r} and its version",
            )


def _channels_of_records(prefix: Path) -> list[str]:
    """The channels that the packages of a prefix came from, as far as they are addresses or folders."""
    found = []
    for record in conda_records(prefix):
        channel = str(record.content.get("channel") or "").rstrip("/")
        base, _, last = channel.rpartition("/")
        channel = base if last == record.content.get("subdir") else channel
        if "://" in channel:
            found.append(conda.HOST if channel.endswith(f"/{conda.HOST}") else channel)
    return list(dict.fromkeys(found))


def _installed_records(prefix: Path) -> list[PrefixRecord]:
    from rattler import PrefixRecord

    return [PrefixRecord.from_path(record.path) for record in conda_records(prefix)]


def _fill(
    settings: Settings,
    staging: Staging,
    specification: Specification,
    specs: Sequence[str],
    sources: Sources,
    records: Sequence[RepoDataRecord] | None,
    reporter: Reporter,
) -> None:
    """Bring the staging prefix to what was asked for; ``records`` None leaves its conda part alone."""
    prefix = staging.path
    original = snapshot(prefix)
    note = read_note(prefix, ENVIRONMENT_NOTE)
    replaced: dict[str, str] = dict(note.get("replaced", {}))
    if records is not None:
        conda.install(
            [record for record in records if record.name.normalized not in replaced],
            prefix,
            target_prefix=staging.target_prefix,
            specs=specs,
            cache_dir=settings.cache_dir,
            reporter=reporter,
        )
        _publish_records(prefix)
    before = original if records is None else snapshot(prefix)
    package_sources = [str(line) for line in note.get("package_sources", [])]
    if specification.wants_pypi:
        with reporter.step("resolve PyPI requirements"):
            wheels.resolve(
                prefix,
                specification,
                pypi_distributions(prefix),
                sources=package_sources,
                cache_dir=settings.cache_dir,
                keep_open=(staging.lock_descriptor,),
            )
        wheels.install(
            prefix,
            folder=specification.folder,
            cache_dir=settings.cache_dir,
            keep_open=(staging.lock_descriptor,),
            reporter=reporter,
        )
    after = snapshot(prefix)
    relocated.forget(prefix, changed(original, after))
    replaced.update(settle_ownership(prefix, staging.target_prefix, before, after))
    relocated.write_carried_prefix(prefix, staging.target_prefix)
    _write_variables(prefix, specification)
    requested = [*note.get("requested", []), *requested_names(specification)]
    write_note(
        prefix,
        ENVIRONMENT_NOTE,
        {
            "version": 1,
            "specs": list(specs) or note.get("specs", []),
            "requested": sorted(set(requested)),
            "channels": [without_credentials(name) for name in sources.names],
            "host_fallback": without_credentials(sources.fallback) or None,
            "replaced": replaced,
            "package_sources": list(dict.fromkeys([*package_sources, *named_sources(specification)])),
            "size": sum(state.size for state in after.values()),
        },
    )
    _write_history(prefix, specs)
    write_lock(prefix, sources.channels)


def _publish_records(prefix: Path) -> None:
    """Records as other users may have them: py-rattler makes them private, with passwords in their URLs."""
    umask = os.umask(0)
    os.umask(umask)
    for record in conda_records(prefix):
        text = record.path.read_text(encoding="utf-8")
        if (public := without_credentials(text)) != text:
            replace_file(record.path, public.encode())
        record.path.chmod(0o666 & ~umask)


def _write_variables(prefix: Path, specification: Specification) -> None:
    """``variables`` of environment.yml, where conda keeps them: ``conda-meta/state``."""
    if not specification.variables:
        return
    import json

    state = prefix / "conda-meta" / "state"
    content: dict[str, Any] = json.loads(state.read_bytes()) if state.is_file() else {"version": 1}
    former: dict[str, str] = content.get("env_vars", {})
    content["env_vars"] = former | specification.variables
    replace_file(state, json.dumps(content).encode())


def _write_history(prefix: Path, specs: Sequence[str]) -> None:
    """One revision in ``conda-meta/history``, in conda's own form; conda reads requests from it."""
    now = datetime.datetime.now(tz=datetime.timezone.utc)
    command = " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    lines = [
        f"==> {now:%Y-%m-%d %H:%M:%S} <==",
        f"# cmd: {without_credentials(' '.join(command.split()))}",
    ]
    for record in conda_records(prefix):
        package = record.package
        subdir = record.content.get("subdir", "noarch")
        lines.append(f"+{package.channel}/{subdir}::{package.name}-{package.version}-{package.build}")
    if specs:
        lines.append(f"# update specs: {list(specs)!r}")
    with (prefix / "conda-meta" / "history").open("a", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write("\n".join(lines) + "\n")

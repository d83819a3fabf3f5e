"""Where the conda packages of one change come from: the channels asked for, as they can be reached now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainenv.channels import conda
from trainenv.channels.access import Access
from trainenv.channels.target import Target
from trainenv.credentials import without_credentials
from trainenv.environments.records import conda_records
from trainenv.errors import ChannelError, InterpreterError, listed
from trainenv.progress import Reporter
from trainenv.settings import Settings


@dataclass(frozen=True)
class Sources:
    """The channels of one change. ``fallback`` says why ``host`` stands in for others, or is empty."""

    channels: tuple[conda.Source, ...]
    names: tuple[str, ...]
    fallback: str = ""
    access: Access = field(default_factory=Access)


def find_sources(
    settings: Settings,
    names: Sequence[str],
    specs: Sequence[str],
    reporter: Reporter,
    target: Target | None = None,
    spare: Sequence[str] = (),
) -> Sources:
    """The channels ``names`` as they can be reached now; else ``host``, if that can stand in.

    For another platform than this machine's ``host`` has nothing, and is left out; so are those of ``spare`` that
    can't be reached, with a notice. Raises ``ChannelError`` with the channel and the reason when another one can't.
    """
    access = Access.of(settings, names)
    names = _each_once(without_credentials(conda.located(name)) for name in names)
    foreign = target is not None and target.is_foreign
    if target is not None and foreign:
        names = _without_host(names, target)
    wanted = [name for name in names if name != conda.HOST]
    reached: list[conda.Source] = []
    if wanted:
        with reporter.step(f"reach {', '.join(map(without_credentials, wanted))}"):
            reached, failed = conda.reach(settings, wanted, access)
        for name in [name for name in failed if name in spare and reached]:
            reporter.notice(
                f"channel {without_credentials(name)} can't be reached ({failed.pop(name)}): it is left out"
            )
        if failed:
            reason = "; ".join(
                f"channel {without_credentials(name)} can't be reached ({why})" for name, why in failed.items()
            )
            others = _beyond_host(specs)
            if reached or foreign or not settings.host_fallback or others:
                hint = f"Name a mirror in {settings.file} under [mirrors], or another channel with -c"
                if others and not (reached or foreign):
                    hint += f"; PyPI is asked for {listed(others)} with -r, or by `trainenv pip install`"
                raise ChannelError(reason, hint=hint)
            source = _host_source(settings, specs, reporter, because=reason)
            reporter.notice(f"{reason}: using {conda.HOST}, this machine's own interpreters, instead")
            return Sources((source,), (conda.HOST,), fallback=reason, access=access)
    sources = {source.name: source for source in reached}
    if conda.HOST in names:
        sources[conda.HOST] = _host_source(settings, specs, reporter)
    return Sources(tuple(sources[name] for name in names if name in sources), names, access=access)


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    """``names`` without those that mean the same channel as an earlier one, such as a folder and its URL."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(Path(name).as_uri() if name.startswith("/") else name.rstrip("/"), name)
    return tuple(found.values())


def _without_host(names: tuple[str, ...], target: Target) -> tuple[str, ...]:
    others = tuple(name for name in names if name != conda.HOST)
    if names and not others:
        raise ChannelError(
            f"channel {conda.HOST} has nothing for {target.platform}",
            cause="it is made of this machine's own interpreters",
            hint="Name a channel that has it with -c",
        )
    return others


def _host_source(settings: Settings, specs: Sequence[str], reporter: Reporter, because: str = "") -> conda.Source:
    from rattler import Version, VersionSpec

    from trainenv.channels import host

    python = [spec for spec in conda.match_specs(specs) if conda.spec_name(spec) == "python"]

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


def channels_of_specs(specs: Sequence[str]) -> list[str]:
    """The channels that specs such as ``conda-forge::numpy`` name themselves."""
    return [name for name, separator, _ in (spec.partition("::") for spec in specs) if separator]


def channels_of_records(prefix: Path) -> list[str]:
    """The channels that the packages of a prefix came from, as far as they are addresses or folders."""
    found = []
    for record in conda_records(prefix):
        channel = str(record.content.get("channel") or "").rstrip("/")
        base, _, last = channel.rpartition("/")
        channel = base if last == record.content.get("subdir") else channel
        if "://" in channel:
            found.append(conda.HOST if channel.endswith(f"/{conda.HOST}") else channel)
    return list(dict.fromkeys(found))


def _beyond_host(specs: Sequence[str]) -> list[str]:
    """The names of what is asked for that no interpreter of this machine brings."""
    names = [conda.spec_name(spec) for spec in conda.match_specs(specs)]
    return [name for name in names if name not in ("python", "pip", "setuptools")]

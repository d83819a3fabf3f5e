"""conda channels: reach them, solve against them, install from them, with py-rattler.

py-rattler is imported when first used: it costs 0.15 s.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import unquote, urlsplit

from trainenv.channels import answers, cache_health, digests, failures, package_check, patience
from trainenv.channels.access import Access
from trainenv.channels.conflicts import Machine, conda_lines, way_out
from trainenv.channels.package_progress import InstallProgress
from trainenv.channels.target import Target
from trainenv.credentials import without_credentials
from trainenv.errors import ChannelError, InstallError, SolveError, TrainenvError
from trainenv.progress import Reporter, carried
from trainenv.settings import Settings

if TYPE_CHECKING:
    from rattler import Channel, MatchSpec, PrefixRecord, RepoDataRecord
    from rattler.install import InstallerReporter

PROBE_SECONDS = 3.5
"""How long an address may take to give any answer before it counts as unreachable."""

_LATE = f"no answer within {PROBE_SECONDS:g} s"

HOST = "host"

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """A channel as it was named, and the URL (ending in ``/``) that stands for it on this machine."""

    name: str
    url: str

    @property
    def channel(self) -> Channel:
        from rattler import Channel

        return Channel(self.url)

    @property
    def is_local(self) -> bool:
        return self.url.startswith("file:")

    @property
    def folder(self) -> Path:
        """The folder of a local channel."""
        return Path(unquote(urlsplit(self.url).path))


def located(name: str) -> str:
    """Channel ``name``; a folder of this machine as an absolute path, so that it means the same from everywhere.

    A folder is what begins with ``.``, ``/`` or ``~``, or has a ``/`` and is there.
    """
    if "://" in name or not (name.startswith((".", "/", "~")) or (os.sep in name and Path(name).is_dir())):
        return name
    try:
        return str(Path(name).expanduser().resolve())
    except (RuntimeError, OSError) as error:
        raise ChannelError(f"{name!r} is not a channel", cause=str(error)) from None


def reach(
    settings: Settings, names: Sequence[str], access: Access | None = None
) -> tuple[list[Source], dict[str, str]]:
    """Find which of the channels ``names`` answer, asking all at once.

    Returns the sources that do, in order, and for each other name the reason; what they say is public.
    A channel with mirrors is met by the first mirror that answers. Takes at most
    ``PROBE_SECONDS`` and a little, also where packets are dropped. Offline nobody is asked.
    """
    access = access or Access.of(settings, names)
    candidates = {name: addresses_of(settings, without_credentials(name), access) for name in names}
    urls = list(dict.fromkeys(source.url for sources in candidates.values() for source in sources))
    answers = _probe_all(urls, access)
    reached: list[Source] = []
    failed: dict[str, str] = {}
    for name, sources in candidates.items():
        answering = next((source for source in sources if answers[source.url] is None), None)
        if answering:
            reached.append(answering)
        else:
            failed[name] = "; ".join(access.public(f"{s.url.rstrip('/')}: {answers[s.url]}") for s in sources)
    return reached, failed


def addresses_of(settings: Settings, name: str, access: Access) -> list[Source]:
    """The places where the channel ``name``, a public one, is to be had: its mirrors, else its own."""
    from rattler import Channel, ChannelConfig
    from rattler.exceptions import InvalidChannelError

    config = ChannelConfig(channel_alias=access.channel_alias) if access.channel_alias else ChannelConfig()

    def source(text: str) -> Source:
        try:
            place = without_credentials(located(text))
            return Source(name, Channel(Path(place).as_uri() if place.startswith("/") else place, config).base_url)
        except InvalidChannelError as error:
            raise ChannelError(
                f"{without_credentials(text)!r} is not a channel",
                cause=failures.one_line(str(error)),
                hint="Name it, or give its URL or folder",
            ) from None

    own = source(name)
    mirrors = settings.mirrors.get(name) or settings.mirrors.get(own.url) or settings.mirrors.get(own.url.rstrip("/"))
    return [source(mirror) for mirror in mirrors] if mirrors else [own]


def _probe_all(urls: Sequence[str], access: Access) -> dict[str, str | None]:
    """What each of ``urls`` answers (see ``probe``), asked at once; who is late is not waited for."""
    answers: dict[str, str | None] = {}

    def ask(url: str) -> None:
        answers[url] = probe(url, access)

    threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in urls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PROBE_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    in_time = dict(answers)
    return {url: in_time.get(url, _LATE) for url in urls}


def probe(url: str, access: Access) -> str | None:
    """None when whatever lives at ``url`` answers, else why it does not. Offline every server does."""
    if url.startswith("file:"):
        folder = Path(unquote(urlsplit(url).path))
        if not folder.is_dir():
            return "there is no such folder"
        if not (folder / "noarch" / "repodata.json").is_file():
            return "the folder has no noarch/repodata.json"
        return None
    if access.offline:
        return None
    import urllib.error

    try:
        request = access.request(f"{url}noarch/repodata.json", method="HEAD")
        access.opener().open(request, timeout=PROBE_SECONDS).close()
    except TrainenvError as error:
        return str(error)
    except urllib.error.HTTPError as error:
        if error.code == 401:
            access.credentials.ask_keyring(urlsplit(url).netloc)
        return f"HTTP status {error.code} {error.reason}" if error.code >= 500 or error.code == 407 else None
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, TimeoutError):
            return _LATE
        if "CERTIFICATE_VERIFY_FAILED" in str(reason):
            return f"its certificate is not trusted ({_verify_message(reason)}); ssl_cert_file names the roots to trust"
        return getattr(reason, "strerror", None) or str(reason)
    except TimeoutError:
        return _LATE
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _verify_message(reason: object) -> str:
    return str(getattr(reason, "verify_message", "") or reason)


def _by_name(specs: Sequence[str]) -> dict[str, str]:
    """The specs that ask for more than a name, by the name, in py-rattler's words."""
    return {
        spec_name(spec): str(spec) for spec in match_specs(specs) if spec.version is not None or spec.build is not None
    }


def solve(
    sources: Sequence[Source],
    specs: Sequence[str],
    *,
    cache_dir: Path,
    installed: Sequence[PrefixRecord] = (),
    access: Access | None = None,
    target: Target | None = None,
) -> list[RepoDataRecord]:
    """The records that satisfy ``specs`` on ``target``; what is ``installed`` is kept where it can be.

    Raises ``SolveError`` when nothing does, ``ChannelError`` when a channel can't be read.
    """
    import rattler
    from rattler.exceptions import FetchRepoDataError, GatewayError, SolverError

    access = access or Access()
    target = target or Target()
    virtual = target.virtual_packages()
    published = any(source.name != HOST for source in sources)
    cutoff = target.cutoff if published else None
    specs = _at_their_sources(specs, sources)
    has = sorted(f"{name}={package.version}={package.build_string}" for name, package in virtual.items())
    question = None
    if not installed:
        rest = [list(specs), has, access.priority, str(cutoff)]
        question = answers.Question.of([source.url for source in sources], [target.subdir, "noarch"], rest)
    if question and (known := answers.recall(cache_dir, question)) is not None:
        return known
    before = question.state() if question else {}

    async def work(sharded: bool) -> list[RepoDataRecord]:
        gateway = rattler.Gateway(
            cache_dir=cache_dir / "repodata",
            default_config=access.source_config(sharded=sharded),
            client=access.client(),
        )
        return await rattler.solve(
            sources=[source.channel for source in sources],
            specs=match_specs(specs),
            gateway=gateway,
            platforms=[rattler.Subdir(target.subdir), rattler.Subdir("noarch")],
            locked_packages=list(installed),
            virtual_packages=list(virtual.values()),
            channel_priority=access.channel_priority,
            exclude_newer=cutoff,
        )

    _made(cache_dir / "repodata")
    try:
        try:
            records = _run(lambda: patience.patient(work(sharded=True), access.read_timeout))
        except (GatewayError, FetchRepoDataError):
            records = _run(lambda: patience.patient(work(sharded=False), access.read_timeout))
    except patience.SilenceError:
        raise failures.silent(f"channel {', '.join(source.name for source in sources)}", access) from None
    except SolverError as error:
        machine = Machine({name: str(package.version) for name, package in virtual.items()}, target.is_this_machine)
        reasons = [access.public(line) for line in conda_lines(str(error), machine, _by_name(specs))]
        raise SolveError(
            "no set of packages satisfies the specification",
            cause="; ".join(reasons) or access.public(failures.one_line(str(error))),
            hint=way_out(str(error)) or _asked(sources, target),
            details=reasons,
        ) from None
    except (GatewayError, FetchRepoDataError, OSError) as error:
        raise ChannelError(
            f"channel {', '.join(source.name for source in sources)} can't be read",
            cause=access.public(failures.one_line(str(error))),
            hint=failures.channel_hint(str(error), access),
        ) from None
    if question:
        answers.keep(cache_dir, question, before, records)
    return records


def _asked(sources: Sequence[Source], target: Target) -> str:
    if [source.name for source in sources] == [HOST]:
        return (
            f"Channel {HOST} has Python, pip and setuptools only; PyPI is asked with -r, or by `trainenv pip install`"
        )
    platform = f" for {target.platform}" if target.is_foreign else ""
    return f"Channels asked{platform}: {', '.join(source.name for source in sources) or 'none'}"


def _at_their_sources(specs: Sequence[str], sources: Sequence[Source]) -> list[str]:
    """``NAME::PACKAGE`` with the URL in place of the name, where a mirror or folder stands for that channel."""
    urls = {source.name: source.url.rstrip("/") for source in sources}
    found = []
    for spec in specs:
        name, separator, rest = spec.partition("::")
        found.append(f"{urls[name]}::{rest}" if separator and name in urls else spec)
    return found


def match_specs(specs: Sequence[str]) -> list[MatchSpec]:
    from rattler import MatchSpec

    return [MatchSpec(spec, strict=False) for spec in specs]


def spec_name(spec: MatchSpec) -> str:
    """The package that ``spec`` speaks of."""
    return str(getattr(spec.name, "normalized", spec.name))


def install(
    records: Sequence[RepoDataRecord],
    prefix: Path,
    *,
    target_prefix: str,
    specs: Sequence[str],
    cache_dir: Path,
    reporter: Reporter,
    access: Access | None = None,
) -> None:
    """Make the conda packages in ``prefix`` equal to ``records``; files carry ``target_prefix``.

    ``records`` that were read from ``prefix`` itself need neither cache nor channel. Raises
    ``InstallError`` naming the package at fault; ``prefix`` is then in an unknown state.
    """
    import rattler
    from rattler.exceptions import InstallerError, LinkError, TransactionError
    from rattler.package_cache import PackageCache, ValidationMode

    access = access or Access()
    fresh = [record for record in records if not isinstance(record, rattler.PrefixRecord)]
    entries = [cache_health.entry_of(cache_dir, _stem(record)) for record in fresh]
    for record, entry in zip(fresh, entries, strict=True):
        if found := cache_health.damage(entry):
            reporter.notice(f"{entry.folder.name} was damaged in the package cache ({found}): it is fetched again")
            cache_health.condemn(entry)
        elif entry.is_there and record.sha256 is None and not cache_health.is_of(entry, _archive(record)):
            cache_health.condemn(entry)  # py-rattler takes it for any package of that name, version and build.
    if access.offline:
        _require_cached(fresh, entries)
    for record, entry in zip(fresh, entries, strict=True):
        if not entry.is_there or not cache_health.is_of(entry, _archive(record)):
            _check_local_package(record)
    cache = _made(cache_dir / "pkgs")
    gate = _Gate(fresh, entries, prefix)
    with reporter.step("conda packages", unit="B") as step:
        listener = InstallProgress(step, gate.look_at, _coming(fresh, prefix))

        async def work() -> None:
            await rattler.install(
                list(records),
                target_prefix=prefix,
                alternative_target_prefix=target_prefix,
                package_cache=PackageCache.new_layered([cache], False, ValidationMode.skip()),
                client=access.client(),
                requested_specs=[spec._match_spec for spec in match_specs(specs)],
                reporter=cast("InstallerReporter", listener),
                show_progress=False,
            )

        try:
            _run(lambda: patience.patient(work(), access.read_timeout, waits=lambda: listener.downloads > 0))
        except patience.SilenceError:
            raise failures.silent(f"the server of {', '.join(listener.being_fetched)}", access) from None
        except (InstallerError, LinkError, TransactionError, OSError) as error:
            if gate.refused:
                raise gate.refusal() from None
            raise failures.install_error(str(error), access, prefix.parent) from None
        if gate.refused:
            raise gate.refusal()
        step.conclude(
            carried(listener.linked, listener.fetched, listener.downloaded),
            packages=listener.linked,
            fetched=listener.fetched,
            downloaded=listener.downloaded,
        )
    for record, entry in zip(fresh, entries, strict=True):
        cache_health.stamp(entry, _archive(record))


def _coming(records: Sequence[RepoDataRecord], prefix: Path) -> dict[str, int]:
    """The size in bytes of the file of each package that ``prefix`` does not have yet, by name."""
    return {
        record.name.normalized: record.size or 0
        for record in records
        if not (prefix / "conda-meta" / f"{_stem(record)}.json").exists()
    }


def _archive(record: RepoDataRecord) -> str:
    """The hash of a package's archive as ``KIND:HEX``, ``""`` where its channel gives none."""
    if record.sha256:
        return f"sha256:{record.sha256.hex()}"
    return f"md5:{record.md5.hex()}" if record.md5 else ""


def _made(folder: Path) -> Path:
    """``folder`` of the package cache, made where it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InstallError(
            f"the package cache in {folder.parent} can't be written",
            cause=error.strerror or str(error),
            hint="cache_dir in trainenv.toml, or TRAINENV_CACHE_DIR, names another folder",
        ) from None
    return folder


def _stem(record: RepoDataRecord) -> str:
    return f"{record.name.normalized}-{record.version}-{record.build}"


def _require_cached(records: Sequence[RepoDataRecord], entries: Sequence[cache_health.Entry]) -> None:
    missing = [
        record.file_name
        for record, entry in zip(records, entries, strict=True)
        if not entry.is_there and not record.url.startswith("file:")
    ]
    if missing:
        raise InstallError(
            f"not in the package cache: {', '.join(missing)}",
            cause="trainenv is offline",
            hint="Create it online once, or take them from a folder that `trainenv channel mirror` made",
        )


def _check_local_package(record: RepoDataRecord) -> None:
    """py-rattler does not check what comes from ``file://``, and a wrong file would poison the cache."""
    kind, wanted = ("sha256", record.sha256) if record.sha256 else ("md5", record.md5)
    if not record.url.startswith("file:") or not wanted:
        return
    file = Path(unquote(urlsplit(record.url).path))
    try:
        found = digests.of_file(file, kind)
    except OSError as error:
        raise InstallError(
            f"package {file} can't be read",
            cause=error.strerror or str(error),
            hint="Its channel lists it: put it back, or index the channel again",
        ) from None
    if found != wanted.hex():
        raise InstallError(
            f"package {file} is not what its channel says",
            cause=f"its {kind} differs from the one in repodata.json",
            hint="Index the channel again, or remove the file and fetch it anew",
        )


class _Gate:
    """Lets no package be linked whose files would go elsewhere than into the prefix.

    A refused one is condemned: py-rattler then finds it incomplete, and fails.
    """

    def __init__(self, records: Sequence[RepoDataRecord], entries: Sequence[cache_health.Entry], prefix: Path) -> None:
        self._entries = {record.name.normalized: entry for record, entry in zip(records, entries, strict=True)}
        self._roads = package_check.Roads(package_check.ways_out_of_records(prefix))
        self.refused: dict[str, str] = {}

    def look_at(self, name: str) -> None:
        """Refuse the package ``name``, which is about to be linked, if there is something against it."""
        entry = self._entries.get(name)
        if entry is None:
            return
        known = cache_health.is_stamped(entry)
        reason = None if known else package_check.fault(entry.folder)
        reason = reason or self._roads.fault(name, entry.folder, cache_health.ways_out(entry))
        if reason:
            self.refused[entry.folder.name] = reason
            cache_health.condemn(entry)

    def refusal(self) -> InstallError:
        package, reason = next(iter(self.refused.items()))
        return InstallError(
            f"package {package} is not to be trusted",
            cause=reason,
            hint="Nothing was changed. Tell who made the package, or take another channel",
        )


def _run(work: Callable[[], Awaitable[T]]) -> T:
    """Run ``work`` in an event loop."""
    _collect_at_exit()

    async def main() -> T:
        return await work()

    return asyncio.run(main())


@cache
def _collect_at_exit() -> None:
    """Avoid py-rattler's crash while an interpreter that used it shuts down."""
    atexit.register(gc.collect)

"""conda channels: reach them, solve against them, install from them, with py-rattler.

py-rattler is imported when first used: it costs 0.15 s.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import re
import threading
import time
import urllib.error
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import unquote, urlsplit

from trainenv.channels import cache_health
from trainenv.channels.access import Access
from trainenv.channels.conflicts import conda_lines
from trainenv.credentials import without_credentials
from trainenv.errors import ChannelError, InstallError, SolveError, TrainenvError
from trainenv.progress import Reporter, Step
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
                cause=_one_line(str(error)),
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


def solve(
    sources: Sequence[Source],
    specs: Sequence[str],
    *,
    cache_dir: Path,
    installed: Sequence[PrefixRecord] = (),
    access: Access | None = None,
) -> list[RepoDataRecord]:
    """The records that satisfy ``specs``; what is ``installed`` is kept where it can be.

    Raises ``SolveError`` when nothing does, ``ChannelError`` when a channel can't be read.
    """
    import rattler
    from rattler.exceptions import FetchRepoDataError, GatewayError, SolverError

    access = access or Access()
    overrides = rattler.VirtualPackageOverrides.from_env()

    async def work(sharded: bool) -> list[RepoDataRecord]:
        gateway = rattler.Gateway(
            cache_dir=cache_dir / "repodata",
            default_config=access.source_config(sharded=sharded),
            client=access.client(),
        )
        return await rattler.solve(
            sources=[source.channel for source in sources],
            specs=match_specs(_at_their_sources(specs, sources)),
            gateway=gateway,
            locked_packages=list(installed),
            virtual_packages=rattler.VirtualPackage.detect(overrides),
            channel_priority=access.channel_priority,
        )

    (cache_dir / "repodata").mkdir(parents=True, exist_ok=True)
    try:
        try:
            return _run(lambda: work(sharded=True))
        except (GatewayError, FetchRepoDataError):
            return _run(lambda: work(sharded=False))
    except SolverError as error:
        raise SolveError(
            "no set of packages satisfies the specification",
            cause=access.public(_one_line(str(error))),
            hint=f"Channels asked: {', '.join(source.name for source in sources) or 'none'}",
            details=[access.public(line) for line in conda_lines(str(error))],
        ) from None
    except (GatewayError, FetchRepoDataError, OSError) as error:
        raise ChannelError(
            f"channel {', '.join(source.name for source in sources)} can't be read",
            cause=access.public(_one_line(str(error))),
            hint=_channel_hint(str(error), access),
        ) from None


def _at_their_sources(specs: Sequence[str], sources: Sequence[Source]) -> list[str]:
    """``NAME::PACKAGE`` with the URL in place of the name, where a mirror or folder stands for that channel."""
    urls = {source.name: source.url.rstrip("/") for source in sources}
    found = []
    for spec in specs:
        name, separator, rest = spec.partition("::")
        found.append(f"{urls[name]}::{rest}" if separator and name in urls else spec)
    return found


def _channel_hint(reason: str, access: Access) -> str:
    if access.offline:
        return "Offline, only what the cache has can be used; go online once, or name a mirror folder"
    if re.search(r"\b40[13]\b", reason):
        return "Name who you are to its host in ~/.netrc, or under [credentials] in trainenv.toml"
    return "Check its name; mirrors can be named in trainenv.toml under [mirrors]"


def match_specs(specs: Sequence[str]) -> list[MatchSpec]:
    from rattler import MatchSpec

    return [MatchSpec(spec, strict=False) for spec in specs]


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
    for entry in entries:
        if found := cache_health.damage(entry):
            reporter.notice(f"{entry.folder.name} was damaged in the package cache ({found}): it is fetched again")
            cache_health.condemn(entry)
    if access.offline:
        _require_cached(fresh, entries)
    for record in fresh:
        _check_local_package(record)
    cache = cache_dir / "pkgs"
    cache.mkdir(parents=True, exist_ok=True)
    with reporter.step("conda packages", total=len(records), unit="packages") as step:
        try:
            _run(
                lambda: rattler.install(
                    list(records),
                    target_prefix=prefix,
                    alternative_target_prefix=target_prefix,
                    package_cache=PackageCache.new_layered([cache], False, ValidationMode.skip()),
                    client=access.client(),
                    requested_specs=[spec._match_spec for spec in match_specs(specs)],
                    reporter=cast("InstallerReporter", _InstallReporter(step)),
                    show_progress=False,
                )
            )
        except (InstallerError, LinkError, TransactionError, OSError) as error:
            text = access.public(_one_line(str(error)))
            if "No space left" in text or "os error 28" in text:
                raise InstallError(
                    f"no space left on the disk of {prefix.parent}",
                    cause=text,
                    hint="Free some; nothing was changed",
                ) from None
            raise InstallError(
                "a conda package could not be installed", cause=text, hint="Nothing was changed; try again"
            ) from None
    for entry in entries:
        cache_health.stamp(entry)


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
    if not record.url.startswith("file:") or record.sha256 is None:
        return
    file = Path(unquote(urlsplit(record.url).path))
    try:
        with file.open("rb") as stream:
            found = hashlib.sha256()
            while block := stream.read(1 << 20):
                found.update(block)
    except OSError as error:
        raise InstallError(f"package {file} can't be read", cause=error.strerror or str(error)) from None
    if found.digest() != record.sha256:
        raise InstallError(
            f"package {file} is not what its channel says",
            cause="its sha256 differs from the one in repodata.json",
            hint="Index the channel again, or remove the file and fetch it anew",
        )


class _InstallReporter:
    """Passes py-rattler's events on as one step; they come from other threads."""

    def __init__(self, step: Step) -> None:
        self._step = step

    def on_transaction_start(self, total_operations: int) -> None:
        self._step.expect(total_operations)

    def on_link_start(self, operation: int, package_name: str) -> int:
        self._step.detail(package_name)
        return operation

    def on_transaction_operation_complete(self, operation: int) -> None:
        self._step.advance()


def _run(work: Callable[[], Awaitable[T]]) -> T:
    """Run ``work`` in an event loop; collecting afterwards avoids py-rattler's crash at exit."""

    async def main() -> T:
        return await work()

    try:
        return asyncio.run(main())
    finally:
        gc.collect()


def _one_line(text: str) -> str:
    return " ".join(text.replace("├─", "").replace("└─", "").replace("│", "").split())

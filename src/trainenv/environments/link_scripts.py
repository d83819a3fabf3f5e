"""Scripts that conda packages bring to be run when they are linked and unlinked.

They run as the user, with all the user may do, so they run only where the setting ``link_scripts``
says so. As with conda: ``bin/.NAME-post-link.sh`` after the package's files are there,
``bin/.NAME-pre-unlink.sh`` before they go, in bash, with ``PREFIX`` and ``PKG_NAME``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from trainenv import relocation
from trainenv.channels.access import Access
from trainenv.environments import linking
from trainenv.environments.records import CondaRecord, conda_records
from trainenv.environments.staging import Staging, clone
from trainenv.errors import InstallError
from trainenv.progress import Reporter
from trainenv.settings import Settings

if TYPE_CHECKING:
    from rattler import RepoDataRecord

POST_LINK = "post-link"
PRE_UNLINK = "pre-unlink"

_MOST_LINES = 3


def install(
    settings: Settings,
    staging: Staging,
    records: Sequence[RepoDataRecord],
    *,
    specs: Sequence[str],
    reporter: Reporter,
    access: Access,
) -> None:
    """``linking.link`` into the staging prefix, with the packages' scripts or a word on those that did not run."""
    prefix = staging.path
    present = {file.name for file in (prefix / "conda-meta").glob("*.json")}
    if settings.link_scripts:
        wanted = {_record_name(record) for record in records}
        leaving = [record for record in conda_records(prefix) if record.path.name not in wanted] if present else []
        _run(_with_script(leaving, prefix, PRE_UNLINK), staging, PRE_UNLINK, reporter)
    linking.link(
        records,
        prefix,
        target_prefix=staging.target_prefix,
        specs=specs,
        cache_dir=settings.cache_dir,
        reporter=reporter,
        access=access,
    )
    coming = [record for record in records if _record_name(record) not in present]
    names = [each.name.normalized for each in coming if _script(prefix, each.name.normalized, POST_LINK).is_file()]
    if names and settings.link_scripts:
        _run([record for record in conda_records(prefix) if record.name in names], staging, POST_LINK, reporter)
    elif names:
        reporter.notice(
            f"the post-link script of {', '.join(sorted(names))} was not run; "
            "link_scripts = true in trainenv.toml lets packages run theirs"
        )


def _record_name(record: RepoDataRecord) -> str:
    """The file in ``conda-meta`` that tells of an installed package."""
    return f"{record.name.normalized}-{record.version}-{record.build}.json"


def _script(prefix: Path, name: str, action: str) -> Path:
    return prefix / "bin" / f".{name}-{action}.sh"


def _with_script(records: Iterable[CondaRecord], prefix: Path, action: str) -> list[CondaRecord]:
    return [record for record in records if _script(prefix, record.name, action).is_file()]


def _run(records: Sequence[CondaRecord], staging: Staging, action: str, reporter: Reporter) -> None:
    """Run the scripts of ``records``, a package's after those of the packages that it needs.

    A failing one raises ``InstallError``; not so before a package goes, as with conda.
    """
    if not records:
        return
    with (
        reporter.step(f"{action} scripts", total=len(records), unit="scripts") as step,
        _usable_here(staging.path, staging.target_prefix),
    ):
        for record in _dependencies_first(records):
            step.detail(record.name)
            _run_one(record, staging, action, reporter)
            step.advance()


@contextmanager
def _usable_here(prefix: Path, target_prefix: str) -> Iterator[None]:
    """Let the programs of a prefix in the making work where it is now, and what they write fit where it will be.

    Its files carry ``prefix`` in the block. After it those that nobody changed are again what they were, bit
    by bit; in the others ``prefix`` becomes ``target_prefix``. Scripts edit in place, so no file is
    shared with a cache or another environment any more.
    """
    from trainenv.environments.copies import placeholder_lengths

    with tempfile.TemporaryDirectory(dir=prefix.parent, prefix="as-linked-") as place:
        linked = Path(place, "prefix")
        clone(prefix, linked)
        relocation.relocate_tree(prefix, target_prefix, str(prefix), placeholder_lengths=placeholder_lengths(prefix))
        _own_files(prefix)
        before = _state(prefix)
        yield
        after = _state(prefix)
        for path in [path for path, state in after.items() if before.get(path) == state]:
            os.replace(linked / path, prefix / path)
        changed = [path for path, state in after.items() if before.get(path) != state]
        relocation.relocate_tree(prefix, str(prefix), target_prefix, paths=changed)


def _run_one(record: CondaRecord, staging: Staging, action: str, reporter: Reporter) -> None:
    prefix = staging.path
    process = subprocess.Popen(
        ["bash", "--noprofile", "--norc", str(_script(prefix, record.name, action))],
        cwd=prefix,
        env=_variables(record, prefix),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(staging.lock_descriptor,),
        start_new_session=True,
    )
    try:
        output, _ = process.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    messages = prefix / ".messages.txt"
    if messages.is_file():
        for line in messages.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip():
                reporter.notice(f"{record.name}: {line.strip()}")
        messages.unlink()
    if process.returncode == 0:
        return
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    cause = "; ".join([f"exit code {process.returncode}", *lines[-_MOST_LINES:]])
    if action == PRE_UNLINK:
        reporter.notice(f"the {action} script of {record.name} failed ({cause}); the package goes all the same")
        return
    raise InstallError(
        f"the {action} script of {record.name} failed",
        cause=cause,
        hint="Nothing was changed; link_scripts = false in trainenv.toml installs the package without it",
    )


def _variables(record: CondaRecord, prefix: Path) -> Mapping[str, str]:
    own = {
        "PREFIX": str(prefix),
        "ROOT_PREFIX": str(prefix),
        "PKG_NAME": record.name,
        "PKG_VERSION": str(record.content.get("version", "")),
        "PKG_BUILDNUM": str(record.content.get("build_number", 0)),
        "PATH": os.pathsep.join([str(prefix / "bin"), os.environ.get("PATH", os.defpath)]),
    }
    return {**os.environ, **own}


def _dependencies_first(records: Sequence[CondaRecord]) -> list[CondaRecord]:
    by_name = {record.name: record for record in sorted(records, key=lambda one: one.name)}
    ordered: dict[str, CondaRecord] = {}

    def add(name: str, above: tuple[str, ...] = ()) -> None:
        if name in by_name and name not in ordered and name not in above:
            for spec in by_name[name].content.get("depends", []):
                add(spec.split()[0], (*above, name))
            ordered[name] = by_name[name]

    for name in by_name:
        add(name)
    return list(ordered.values())


def _own_files(prefix: Path) -> None:
    for path, (_, links, *_) in _state(prefix).items():
        file = prefix / path
        if links > 1 and not file.is_symlink():
            beside = file.with_name(f".own-{os.getpid()}")
            shutil.copy2(file, beside)
            os.replace(beside, file)


def _state(prefix: Path) -> dict[str, tuple[int, int, int, int]]:
    """Inode, links, size and time of change of each file and link of ``prefix``, by path."""
    found = {}
    for place, folders, names in os.walk(prefix):
        for name in [*names, *(each for each in folders if os.path.islink(os.path.join(place, each)))]:
            status = os.lstat(os.path.join(place, name))
            path = os.path.relpath(os.path.join(place, name), prefix)
            found[path] = (status.st_ino, status.st_nlink, status.st_size, status.st_mtime_ns)
    return found

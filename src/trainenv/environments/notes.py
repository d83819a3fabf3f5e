"""What a change writes down in a prefix for conda, for other users and for what comes later."""

from __future__ import annotations

import datetime
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainenv.credentials import without_credentials
from trainenv.environments.records import LINK_HASH, CondaRecord, conda_records, pypi_distributions, replace_file


def projects(prefix: Path) -> list[dict[str, Any]]:
    """The PyPI packages that came from a folder or a checkout, not as a file: an archive can't fetch them."""
    found = []
    for each in pypi_distributions(prefix):
        origin = each.direct_url or {}
        vcs: Mapping[str, Any] | None = origin.get("vcs_info")
        folder: Mapping[str, Any] | None = origin.get("dir_info")
        if vcs is not None or folder is not None:
            found.append(
                {
                    "name": each.key,
                    "version": each.version,
                    "url": without_credentials(str(origin.get("url", ""))),
                    "editable": bool((folder or {}).get("editable")),
                    "commit": (vcs or {}).get("commit_id"),
                }
            )
    return found


_HASH_OF_LINK = re.compile(r'("path_type":\s*"softlink"[^{}]*?)"sha256_in_prefix"')


def publish_records(prefix: Path) -> None:
    """Records as other users and conda may have them.

    py-rattler makes them private, with passwords in their URLs. Of a symlink it writes down the hash of its
    target's name where conda has that of the file it leads to, and ``conda doctor`` would call each of them
    altered: it stands under a name of our own.
    """
    umask = os.umask(0)
    os.umask(umask)
    for record in conda_records(prefix):
        text = record.path.read_text(encoding="utf-8")
        public = _HASH_OF_LINK.sub(rf'\1"{LINK_HASH}"', without_credentials(text))
        if public != text:
            replace_file(record.path, public.encode())
        record.path.chmod(0o666 & ~umask)


def write_variables(prefix: Path, variables: Mapping[str, str]) -> None:
    """``variables`` of environment.yml, where conda keeps them: ``conda-meta/state``."""
    if not variables:
        return
    state = prefix / "conda-meta" / "state"
    content: dict[str, Any] = json.loads(state.read_bytes()) if state.is_file() else {"version": 1}
    former: dict[str, str] = content.get("env_vars", {})
    content["env_vars"] = {**former, **variables}
    replace_file(state, json.dumps(content).encode())


def history_entries(prefix: Path) -> list[str]:
    """The conda packages of ``prefix`` as ``conda-meta/history`` names them."""
    return [_history_entry(record) for record in conda_records(prefix)]


def _history_entry(record: CondaRecord) -> str:
    package = record.package
    return (
        f"{package.channel}/{record.content.get('subdir', 'noarch')}::{package.name}-{package.version}-{package.build}"
    )


def write_history(prefix: Path, former: Sequence[str], specs: Sequence[str]) -> None:
    """One revision in ``conda-meta/history``, in conda's own form; conda reads requests from it.

    ``former`` are the entries before the change.
    """
    now = datetime.datetime.now(tz=datetime.timezone.utc)
    command = " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    lines = [
        f"==> {now:%Y-%m-%d %H:%M:%S} <==",
        f"# cmd: {without_credentials(' '.join(command.split()))}",
    ]
    present = history_entries(prefix)
    lines += [f"-{entry}" for entry in former if entry not in present]
    lines += [f"+{entry}" for entry in present if entry not in former]
    gone = {_name_in(entry) for entry in former} - {_name_in(entry) for entry in present}
    if gone:
        lines.append(f"# remove specs: {sorted(gone)!r}")
    if specs:
        lines.append(f"# update specs: {list(specs)!r}")
    with (prefix / "conda-meta" / "history").open("a", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write("\n".join(lines) + "\n")


def _name_in(entry: str) -> str:
    return entry.partition("::")[2].rsplit("-", 2)[0]

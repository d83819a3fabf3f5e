"""Links conda packages into a prefix, so that their files name it rightly whatever characters it has.

The engine puts the bytes of a prefix wherever a package has its placeholder, also where JSON, a shell or
Python would need other bytes. So the files of a prefix with such characters get the plain placeholder of
archives first, and are relocated from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from trainenv import relocation
from trainenv.channels import conda
from trainenv.channels.access import Access
from trainenv.environments.records import conda_records
from trainenv.progress import Reporter

if TYPE_CHECKING:
    from rattler import RepoDataRecord


def link(
    records: Sequence[RepoDataRecord],
    prefix: Path,
    *,
    target_prefix: str,
    specs: Sequence[str],
    cache_dir: Path,
    reporter: Reporter,
    access: Access,
) -> None:
    """``conda.install``, with ``target_prefix`` as each file has to spell it. Raises as that and ``relocate_tree``."""
    install = partial(
        conda.install, records, prefix, specs=specs, cache_dir=cache_dir, reporter=reporter, access=access
    )
    if relocation.is_plain(target_prefix):
        install(target_prefix=target_prefix)
        return
    present = {file.name for file in (prefix / "conda-meta").glob("*.json")}
    install(target_prefix=relocation.PLACEHOLDER)
    from trainenv.environments.copies import hash_in_conda_records, placeholder_lengths

    fresh = [record for record in conda_records(prefix) if record.path.name not in present]
    holding = [entry["_path"] for record in fresh for entry in record.paths if _holds_prefix(entry)]
    lengths = placeholder_lengths(prefix)
    moved = relocation.relocate_tree(
        prefix, relocation.PLACEHOLDER, target_prefix, paths=holding, placeholder_lengths=lengths, reporter=reporter
    )
    hash_in_conda_records(prefix, moved)


def _holds_prefix(entry: dict[str, str]) -> bool:
    """Whether the engine wrote the prefix into a file: for a placeholder, or to start a console script."""
    return bool(entry.get("prefix_placeholder")) or "entry_point" in entry.get("path_type", "")

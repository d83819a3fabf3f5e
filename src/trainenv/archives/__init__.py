"""Move: a prefix into an archive, an archive onto a machine.

An archive is one file that any ``tar --zstd -xf`` reads, and that can be read in parts, checked and
relocated in one pass as well::

    archive = pack(Path("/opt/envs/chat"), Path("chat.tar.zst"), name="chat", reporter=reporter)
    unpack_environment(settings, Path("chat.tar.zst"), name="chat_b", reporter=reporter)

The format is written down in ``docs/internals/archive-format.md``. The layers, from below:
``sources`` (where the bytes come from), ``tarformat`` (headers), ``codecs`` and ``frames`` (the tar in pieces),
``seektable`` and ``footer`` under ``tails`` (how the file ends), ``hashing``, ``members``,
``columns``, ``manifest`` and its ``checks``;
``inventory`` (what is in a prefix) and ``contents`` (what of it is packed: ``editable``, ``links``, ``selection``),
``canonical`` (what a file's stored content is) under ``canonical_files``, ``formats`` (which one is meant) and
``writing``, ``packing``, with ``delta`` and ``machine`` (what the other side has); ``local_files``,
``content_index`` and ``copying`` under ``origins`` (what is here already); ``reading`` and ``placing`` under
``unpacking``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainenv.archives.contents import Choice
    from trainenv.archives.editable import Editable
    from trainenv.archives.formats import FORMATS, chosen
    from trainenv.archives.hosts import Host, HostCheck, host_checks, read_host, this_host
    from trainenv.archives.manifest import Archive, HostNeeds, Manifest, Package
    from trainenv.archives.members import File, Files
    from trainenv.archives.packing import pack
    from trainenv.archives.selection import Filter
    from trainenv.archives.unpacking import open_archive, read_manifest, unpack, unpack_environment, verify_archive

_HOMES = {
    "Archive": "manifest",
    "Choice": "contents",
    "Editable": "editable",
    "FORMATS": "formats",
    "File": "members",
    "Files": "members",
    "Filter": "selection",
    "Host": "hosts",
    "HostCheck": "hosts",
    "HostNeeds": "manifest",
    "Manifest": "manifest",
    "Package": "manifest",
    "chosen": "formats",
    "host_checks": "hosts",
    "open_archive": "unpacking",
    "pack": "packing",
    "read_host": "hosts",
    "read_manifest": "unpacking",
    "this_host": "hosts",
    "unpack": "unpacking",
    "unpack_environment": "unpacking",
    "verify_archive": "unpacking",
}

__all__ = [
    "FORMATS",
    "Archive",
    "Choice",
    "Editable",
    "File",
    "Files",
    "Filter",
    "Host",
    "HostCheck",
    "HostNeeds",
    "Manifest",
    "Package",
    "chosen",
    "host_checks",
    "open_archive",
    "pack",
    "read_host",
    "read_manifest",
    "this_host",
    "unpack",
    "unpack_environment",
    "verify_archive",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trainenv.archives' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"trainenv.archives.{_HOMES[name]}"), name)

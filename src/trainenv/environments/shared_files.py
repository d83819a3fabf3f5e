"""What a change made, opened to the Unix group that shares the workspace."""

from __future__ import annotations

from pathlib import Path

from trainenv.settings import Settings
from trainenv.sharing import group_of, open_changed, open_tree

_BIG = ("pkgs", "uv/archive-v*")
"""Folders of the cache with entries that never change: only new ones are looked at."""


def share(settings: Settings, made: Path, since: float) -> None:
    """Give the group of ``envs_dir`` what is in ``made``, and that of the cache what came there after ``since``.

    Does nothing where no group shares these. ``since`` is in seconds since 1970.
    """
    if (group := group_of(settings.envs_dir)) is not None:
        open_tree(made, group)
    if (group := group_of(settings.cache_dir)) is None:
        return
    big = [folder for pattern in _BIG for folder in settings.cache_dir.glob(pattern)]
    for folder in big:
        open_changed(folder, group, since - 1)
    for place in _around(settings.cache_dir, big):
        open_tree(place, group)


def _around(cache: Path, big: list[Path]) -> list[Path]:
    """The entries of ``cache`` that neither are in ``big`` nor hold one of these, and so on inside."""
    found: list[Path] = []
    for entry in cache.iterdir() if cache.is_dir() else ():
        if entry in big:
            continue
        if any(entry in folder.parents for folder in big):
            found += _around(entry, big)
        else:
            found.append(entry)
    return found

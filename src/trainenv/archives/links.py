"""Where the links of a prefix lead: inside of it, as an archive may hold them, or out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from trainenv.archives.checks import check_link


@dataclass
class Links:
    """``targets`` of the links that stay inside, by path; where each other one leads (``outward``)."""

    targets: dict[str, str] = field(default_factory=dict)
    outward: dict[str, str] = field(default_factory=dict)


def sorted_out(root: str, carried: str, links: Mapping[str, str]) -> Links:
    """Tell the ``links`` (targets by path) of the prefix at ``root``, which carries ``carried``, apart."""
    found = Links()
    for path, target in sorted(links.items()):
        inside = _inside(root, carried, path, target)
        if inside is None:
            found.outward[path] = target
        else:
            found.targets[path] = inside
    return found


def _inside(root: str, carried: str, path: str, target: str) -> str | None:
    """``target`` as a relative path that stays inside the prefix wherever that lies; None if it leads out."""
    folder = os.path.dirname(path)
    real_root = os.path.realpath(root)
    relative = target
    for prefix in (carried, root, real_root):
        if target == prefix or target.startswith(prefix + "/"):
            relative = os.path.relpath(target[len(prefix) :].strip("/") or ".", folder or ".")
            break
    relative = relative.rstrip("/")
    try:
        check_link(path, relative)
    except ValueError:
        real = os.path.realpath(os.path.join(root, folder, relative))
        if real == real_root or real.startswith(real_root + "/"):
            return os.path.relpath(real, os.path.join(real_root, folder))
        return None
    return relative


def contents(path: str, real: str, around: tuple[str, ...] = ()) -> Iterator[tuple[str, str, bool]]:
    """What a link at ``path`` to the file or folder ``real`` stands for: ``(path, place, is a folder)``.

    Links below ``real`` are followed; one that leads to a folder it lies in ends there.
    """
    if os.path.isfile(real):
        yield path, real, False
    elif os.path.isdir(real) and real not in around:
        yield path, real, True
        for name in sorted(os.listdir(real)):
            yield from contents(f"{path}/{name}", os.path.realpath(os.path.join(real, name)), (*around, real))

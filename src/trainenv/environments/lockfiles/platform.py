"""Is a lock meant for this machine, or the one that was named?"""

from __future__ import annotations

from collections.abc import Iterable

from trainenv.errors import SpecificationError


def refuse_unless_for(here: str, platforms: Iterable[str], source: str) -> None:
    """Raise ``SpecificationError`` unless ``here`` is among ``platforms``."""
    found = sorted(set(platforms))
    if here not in found:
        raise SpecificationError(
            f"{source} locks no environment for {here}",
            cause=f"it is for {', '.join(found) or 'no platform'}",
            hint=f"Make a lock for {here}, or use this one on a machine that it is for",
        )

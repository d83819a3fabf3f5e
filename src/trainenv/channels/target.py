"""For which machine, and as of which day, packages are chosen: this machine and today unless told otherwise.

Whoever locks an environment on a laptop means the GPU machine that it is for. What such a machine has
that packages may ask for, conda knows as virtual packages (``__cuda``, ``__glibc``), uv as a platform.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainenv.errors import SolveError, UsageError

if TYPE_CHECKING:
    from rattler import GenericVirtualPackage

HERE = "here"
"""The word that takes a ``cuda`` or ``glibc`` back: as this machine has it."""

NONE = "none"
"""No such thing: a machine without a GPU, no day from which packages are left out."""

_USUAL = {
    "linux": {"__unix": "0", "__linux": "4.18", "__glibc": "2.28"},
    "osx": {"__unix": "0", "__osx": "13.0"},
    "win": {"__win": "0"},
}
"""What a machine of another platform is taken to have, if nobody says: what is common in long-term releases."""

_OVERRIDES = {
    "__cuda": "CONDA_OVERRIDE_CUDA",
    "__glibc": "CONDA_OVERRIDE_GLIBC",
    "__linux": "CONDA_OVERRIDE_LINUX",
    "__osx": "CONDA_OVERRIDE_OSX",
    "__win": "CONDA_OVERRIDE_WIN",
}
"""The variables by which conda lets its users say what the machine has; an empty one says that it has it not."""

_UV_PLATFORMS = {
    "linux-64": "x86_64-manylinux",
    "linux-aarch64": "aarch64-manylinux",
    "osx-64": "x86_64-apple-darwin",
    "osx-arm64": "aarch64-apple-darwin",
    "win-64": "x86_64-pc-windows-msvc",
    "win-arm64": "aarch64-pc-windows-msvc",
}
_UV_GLIBC: list[int] = [17, 28, *range(31, 41)]
"""The minor versions of glibc 2 that uv knows a platform for."""


@dataclass(frozen=True)
class Target:
    """What is None is as on this machine, or today.

    ``platform`` is conda's name, such as ``linux-aarch64``. ``cuda`` is the version that the driver
    of its GPU offers, ``"none"`` for a machine without one, and ``glibc`` that of its C library; ``"here"``
    takes either back (see ``over``). ``exclude_newer`` is a date or an RFC 3339 time, kept as a time in UTC:
    packages published after it, or nobody knows when, are left out; a date means until its end.
    Raises ``UsageError`` for what is none of these.
    """

    platform: str | None = None
    cuda: str | None = None
    glibc: str | None = None
    exclude_newer: str | None = None

    def __post_init__(self) -> None:
        if self.platform is not None:
            _check_platform(self.platform)
        for field in ("cuda", "glibc"):
            value = getattr(self, field)
            if value == "":  # as CONDA_OVERRIDE_CUDA has it
                object.__setattr__(self, field, NONE)
            elif value is not None and value not in (HERE, NONE) and not re.fullmatch(r"\d+(\.\d+)*", value):
                raise UsageError(
                    f"{value!r} is no version of {'CUDA' if field == 'cuda' else field}",
                    hint=f"Write it as in --{field} {'12.4' if field == 'cuda' else '2.28'}",
                )
        if self.exclude_newer not in (None, NONE):
            object.__setattr__(self, "exclude_newer", _in_utc(str(self.exclude_newer)))

    def over(self, former: Target) -> Target:
        """This target where it says something, ``former`` where it does not."""

        def chosen(field: str, nothing: str) -> str | None:
            value: str | None = getattr(self, field)
            return getattr(former, field) if value is None else None if value == nothing else value

        return Target(
            self.platform or former.platform,
            chosen("cuda", HERE),
            chosen("glibc", HERE),
            chosen("exclude_newer", NONE),
        )

    @property
    def subdir(self) -> str:
        """conda's name of its platform."""
        return self.platform or this_platform()

    @property
    def is_foreign(self) -> bool:
        """Whether this machine can't run what is made for it."""
        return self.platform is not None and self.platform != this_platform()

    @property
    def is_this_machine(self) -> bool:
        """Whether nothing was said of what the machine has."""
        return not self.is_foreign and self.cuda in (None, HERE) and self.glibc in (None, HERE)

    def require_runnable(self) -> None:
        """Raise ``UsageError`` where no environment for it can be made on this machine."""
        if self.is_foreign:
            raise UsageError(
                f"an environment for {self.platform} can't be made here",
                cause=f"this machine is {this_platform()}",
                hint=f"Lock it with `trainenv lock --platform {self.platform} -o pixi.lock`, "
                "and create it there from that",
            )

    @property
    def cutoff(self) -> datetime.datetime | None:
        """``exclude_newer`` as a time in UTC."""
        if self.exclude_newer in (None, NONE):
            return None
        return datetime.datetime.fromisoformat(str(self.exclude_newer).replace("Z", "+00:00"))

    def virtual_packages(self) -> dict[str, GenericVirtualPackage]:
        """What the machine has that conda packages may ask for, by name."""
        found = self._usual() if self.is_foreign else _detected()
        linux = self.subdir.startswith("linux-")
        for name, version in (("__cuda", self.cuda), ("__glibc", self.glibc if linux else None)):
            if version == NONE:
                found.pop(name, None)
            elif version not in (None, HERE):
                found[name] = _virtual(name, str(version))
        return found

    def _usual(self) -> dict[str, GenericVirtualPackage]:
        system, _, processor = self.subdir.partition("-")
        found = {name: _virtual(name, version) for name, version in _USUAL.get(system, {}).items()}
        processor = {"64": "x86_64", "32": "x86"}.get(processor, processor)
        found["__archspec"] = _virtual("__archspec", "1", os.environ.get("CONDA_OVERRIDE_ARCHSPEC") or processor)
        for name, variable in _OVERRIDES.items():
            version = os.environ.get(variable)
            if version == "":
                found.pop(name, None)
            elif version and (name in found or name == "__cuda"):
                found[name] = _virtual(name, version)
        return found

    def stated(self) -> list[str]:
        """The virtual packages that were stated, as a lock names them: ``__cuda=12.4``."""
        pairs = (("__cuda", self.cuda), ("__glibc", self.glibc))
        return [f"{name}={version}" for name, version in pairs if version not in (None, HERE, NONE)]

    @classmethod
    def of_stated(cls, packages: list[str]) -> Target:
        """What ``stated`` said; other virtual packages are passed over."""
        found = dict(re.findall(r"^__(cuda|glibc)\s*=+\s*(\d+(?:\.\d+)*)", "\n".join(packages), re.MULTILINE))
        return cls(cuda=found.get("cuda"), glibc=found.get("glibc"))

    def uv_platform(self) -> list[str]:
        """uv's option for which platform to choose wheels; none for this machine as it is."""
        glibc = None if self.glibc in (None, HERE, NONE) or not self.subdir.startswith("linux-") else self.glibc
        if not self.is_foreign and glibc is None:
            return []
        platform = _UV_PLATFORMS.get(self.subdir)
        if platform is None:
            raise SolveError(
                f"PyPI packages can't be chosen for {self.subdir}",
                cause="uv knows no such platform",
                hint="Take them from a conda channel",
            )
        if self.subdir.startswith("linux-"):
            platform += f"_2_{_glibc_for_uv(glibc or _USUAL['linux']['__glibc'])}"
        return ["--python-platform", platform]

    def uv_options(self) -> list[str]:
        """uv's options for which platform, and as of which day, to choose packages."""
        newest = ["--exclude-newer", str(self.exclude_newer)] if self.cutoff else []
        return [*self.uv_platform(), *newest]

    def to_note(self) -> dict[str, str]:
        """What an environment keeps of it for later changes."""
        kept = {"cuda": self.cuda, "glibc": self.glibc, "exclude_newer": self.exclude_newer}
        return {key: value for key, value in kept.items() if value is not None}

    @classmethod
    def of_note(cls, note: Mapping[str, Any]) -> Target:
        """What ``to_note`` kept in the note of an environment."""
        found: Mapping[str, str] = note.get("target") or {}
        return cls(cuda=found.get("cuda"), glibc=found.get("glibc"), exclude_newer=found.get("exclude_newer"))


def this_platform() -> str:
    """conda's name for this machine, for example ``linux-64``."""
    from rattler import Subdir

    return str(Subdir.current())


def _check_platform(name: str) -> None:
    from rattler import Subdir

    known = [str(subdir) for subdir in Subdir.all() if str(subdir) != "noarch"]
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, known, n=1)
        raise UsageError(
            f"{name!r} is no platform",
            hint=f"Did you mean {near[0]}?" if near else "Examples: linux-64, linux-aarch64, osx-arm64, win-64",
        )


def _in_utc(text: str) -> str:
    """A date (until its end) or an RFC 3339 time, as a time in UTC."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return f"{datetime.date.fromisoformat(text)}T23:59:59Z"
        if re.fullmatch(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", text):
            whole = re.sub(r"\.\d+", "", text.upper().replace("Z", "+00:00"))
            return f"{datetime.datetime.fromisoformat(whole).astimezone(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"{text!r} is no date", hint="Write it as 2025-06-30, or as a time: 2025-06-30T12:00:00Z")


def _virtual(name: str, version: str, build: str = "0") -> GenericVirtualPackage:
    from rattler import GenericVirtualPackage, PackageName, Version
    from rattler.exceptions import InvalidVersionError
    from rattler.package import BuildString

    try:
        return GenericVirtualPackage(PackageName(name), Version(version), BuildString(build))
    except InvalidVersionError:
        raise UsageError(f"{_OVERRIDES[name]}={version} is no version", hint="Mend the variable, or unset it") from None


def _detected() -> dict[str, GenericVirtualPackage]:
    """What this machine has, ``CONDA_OVERRIDE_*`` first, as conda sees it."""
    from rattler import VirtualPackage, VirtualPackageOverrides
    from rattler.exceptions import DetectVirtualPackageError

    try:
        every = [package.into_generic() for package in VirtualPackage.detect(VirtualPackageOverrides.from_env())]
    except DetectVirtualPackageError as error:
        raise UsageError(
            "what this machine has can't be found out",
            cause=str(error),
            hint="Look at the variables CONDA_OVERRIDE_*: each is a version, or empty",
        ) from None
    return {package.name.normalized: package for package in every}


def _glibc_for_uv(version: str) -> int:
    """The minor version of the newest glibc that uv has a platform for and that runs on one of ``version``."""
    numbers = [*(int(part) for part in version.split(".")), 0]
    known = [minor for minor in _UV_GLIBC if (2, minor) <= (numbers[0], numbers[1])]
    if not known:
        raise SolveError(
            f"PyPI packages can't be chosen for glibc {version}",
            cause=f"wheels need 2.{_UV_GLIBC[0]} at least",
            hint="Take them from a conda channel",
        )
    return known[-1]

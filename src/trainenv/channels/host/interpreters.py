"""Which interpreters this machine has, and which of them can become a package."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.version import InvalidVersion, Version

from trainenv.channels.host.probing import Answer, Prober

OLDEST = (3, 8)

_SOURCES = ("running", "pyenv", "uv", "path", "added")
_PATH_NAME = re.compile(r"python(\d(\.\d+)?)?\Z")
_ADDED = "interpreters-added.json"
_SYSTEMS = {"linux-x86_64-64": "linux-64", "linux-aarch64-64": "linux-aarch64"}


@dataclass(frozen=True)
class Layout:
    """Where a packageable interpreter keeps its parts, and what its distribution did to it.

    ``stdlib`` and ``include`` are absolute; ``subdir`` is conda's name of the platform.
    ``debian`` says that the standard library carries Debian's (or Ubuntu's) patches, ``frozen_site``
    that module ``site`` is compiled into the binary and the file beside it is not read.
    """

    stdlib: Path
    include: Path
    multiarch: str
    subdir: str
    debian: bool
    frozen_site: bool


@dataclass(frozen=True)
class Interpreter:
    """A Python of this machine.

    ``version`` is like ``"3.11.7"``, empty if it could not be asked; ``source`` says where it was
    found (``running``, ``pyenv``, ``uv``, ``path``, or ``added`` by its path). ``unusable`` is the
    reason, in words for a user, why it can't be packaged; None if it can.
    """

    executable: Path
    version: str
    source: str
    prefix: Path
    unusable: str | None
    layout: Layout | None = field(default=None, repr=False)

    @property
    def short_version(self) -> str:
        """``"3.11"`` of ``"3.11.7"``."""
        return ".".join(self.version.split(".")[:2])

    def to_json(self) -> dict[str, str | None]:
        """The object that ``channel build --json`` prints a list of."""
        return {
            "version": self.version,
            "executable": str(self.executable),
            "source": self.source,
            "unusable": self.unusable,
        }

    def __str__(self) -> str:
        return f"{self.version or '?'} ({self.executable})"


def find_interpreters(cache_dir: Path, also: Sequence[Path] = ()) -> list[Interpreter]:
    """All Pythons of this machine and those in ``also``, each base interpreter once, best first.

    Usable ones come first, finished releases before pre-releases, the newest first; of one version an
    unpatched one comes before Debian's. Never raises for a strange interpreter. Answers are kept in
    ``cache_dir``, so a second call starts no process.
    """
    prober = Prober(cache_dir / "interpreters.json")
    sources: dict[Path, str] = {}
    for path, source in (*_candidates(), *((path, "added") for path in (*added(cache_dir), *also))):
        sources.setdefault(_resolved(path), source)
    answers = prober.ask(sources)
    for path, answer in list(answers.items()):
        base = _base_executable(path, answer)
        if base != path:
            source = sources.pop(path)
            if base not in sources or _SOURCES.index(source) < _SOURCES.index(sources[base]):
                sources[base] = source
    answers = prober.ask(sources)
    found = [_interpreter(path, source, answers[path]) for path, source in sources.items()]
    return sorted(found, key=_rank)


def added(cache_dir: Path) -> list[Path]:
    """The interpreters that the user added by their paths, in order."""
    try:
        content = json.loads((cache_dir / _ADDED).read_bytes())
    except (OSError, ValueError):
        return []
    return [Path(path) for path in content if isinstance(path, str)] if isinstance(content, list) else []


def remember(cache_dir: Path, executable: Path) -> None:
    """Count ``executable`` among this machine's interpreters from now on."""
    known = [str(path) for path in added(cache_dir)]
    if str(executable) in known:
        return
    cache_dir.mkdir(parents=True, exist_ok=True)
    beside = cache_dir / f".{_ADDED}.{os.getpid()}"
    beside.write_text(json.dumps([*known, str(executable)], indent=1))
    os.replace(beside, cache_dir / _ADDED)


def base_of(cache_dir: Path, executable: Path) -> Path:
    """The interpreter that ``executable``, which may be a link, a venv's copy or a wrapper, leads to."""
    path = _resolved(executable)
    return _base_executable(path, Prober(cache_dir / "interpreters.json").ask([path])[path])


def _candidates() -> Iterator[tuple[Path, str]]:
    if sys.executable:
        yield Path(sys.executable), "running"
    home = Path(os.path.expanduser("~"))
    pyenv_roots = [Path(os.environ[name]) for name in ("PYENV_ROOT",) if os.environ.get(name)] + [home / ".pyenv"]
    for root in pyenv_roots:
        yield from ((path, "pyenv") for path in _installed_under(root / "versions"))
    if folder := os.environ.get("UV_PYTHON_INSTALL_DIR"):
        uv_dir = Path(folder)
    else:
        uv_dir = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "uv" / "python"
    yield from ((path, "uv") for path in _installed_under(uv_dir))
    shims = {_resolved(root / "shims") for root in pyenv_roots}
    for entry in os.environ.get("PATH", os.defpath).split(os.pathsep):
        folder_path = Path(entry)
        if folder_path.is_absolute() and _resolved(folder_path) not in shims:
            yield from ((folder_path / name, "path") for name in _listed(folder_path) if _PATH_NAME.match(name))


def _installed_under(folder: Path) -> Iterator[Path]:
    """The interpreter of each installation under ``folder``, as pyenv and uv lay them out."""
    for name in _listed(folder):
        for program in ("python3", "python"):
            path = folder / name / "bin" / program
            if os.path.lexists(path):
                yield path
                break


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _resolved(path: Path) -> Path:
    """``path`` without links; a broken or circular link stays as it is."""
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError):
        return path


def _base_executable(path: Path, answer: Answer | str) -> Path:
    """The interpreter behind ``path``, which may be a venv's copy or a wrapper script."""
    if isinstance(answer, str):
        return path
    short = ".".join(answer.version.split(".")[:2])
    for candidate in (Path(answer.prefix) / "bin" / f"python{short}", Path(answer.executable or path)):
        resolved = _resolved(candidate)
        if resolved.is_file():
            return resolved
    return path


def _interpreter(path: Path, source: str, answer: Answer | str) -> Interpreter:
    if isinstance(answer, str):
        return Interpreter(path, "", source, path.parent.parent, answer)
    prefix = Path(answer.prefix)
    reason = _unusable(answer)
    layout = None
    if reason is None:
        stdlib = _resolved(Path(answer.stdlib))
        layout = Layout(
            stdlib=stdlib,
            include=Path(answer.include),
            multiarch=answer.multiarch,
            subdir=_SYSTEMS[answer.system],
            debian="dist-packages" in _text(stdlib / "site.py"),
            frozen_site=answer.frozen_site,
        )
    return Interpreter(path, answer.version, source, prefix, reason, layout)


def _unusable(answer: Answer) -> str | None:
    if answer.implementation == "python2" or _release(answer.version) < OLDEST:
        return f"it is older than Python {OLDEST[0]}.{OLDEST[1]}"
    if answer.implementation != "cpython":
        return f"it is not CPython but {answer.implementation}"
    if answer.system not in _SYSTEMS:
        return f"its platform ({answer.system}) is not supported"
    if answer.musl:
        return "it is built for musl, and conda packages are for glibc"
    if answer.debug:
        return "it is a debug build"
    if answer.free_threaded:
        return "it is a free-threaded build"
    if os.path.isdir(os.path.join(answer.prefix, "conda-meta")):
        return "it lives in a conda environment, with libraries that belong to other packages"
    short = ".".join(answer.version.split(".")[:2])
    if answer.platlibdir != "lib" or Path(answer.stdlib) != Path(answer.prefix) / "lib" / f"python{short}":
        return f"its standard library is not in lib/python{short} but in {answer.stdlib}"
    if not os.path.isfile(os.path.join(answer.stdlib, "site.py")):
        return "its standard library is not a folder of files"
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _rank(interpreter: Interpreter) -> tuple[object, ...]:
    try:
        version = Version(interpreter.version)
    except InvalidVersion:
        version = Version("0")
    newest_first = tuple(-part for part in (*version.release, 0, 0, 0)[:3])
    return (
        interpreter.unusable is not None,
        version.is_prerelease,
        newest_first,
        -(version.pre or ("", 0))[1],
        interpreter.layout is not None and interpreter.layout.debian,
        _SOURCES.index(interpreter.source),
        str(interpreter.executable),
    )

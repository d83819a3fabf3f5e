"""PyPI packages: where they come from, by the user's own pip settings, and the ``uv`` that fetches them.

uv reads neither ``pip.conf`` nor ``PIP_*``, but a team's mirrors, proxies and certificates stand
there. So pip's settings are read here and told to uv in its own words. What the user set for uv
itself (``UV_*``, ``uv.toml``, ``[tool.uv]``) is left alone and wins.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from trainenv.channels.access import Access, in_memory
from trainenv.channels.credentials import addresses_in
from trainenv.channels.scratch import scratch_folder
from trainenv.channels.uv_settings import uv_files
from trainenv.credentials import without_credentials
from trainenv.errors import ChannelError

_LISTS = {"extra-index-url", "find-links", "trusted-host", "constraint", "no-binary", "only-binary"}
_FOLLOWED = {*_LISTS, "index-url", "no-index", "cert", "proxy", "timeout"}
_FORMER_NAMES = {"default-timeout": "timeout", "pypi-url": "index-url"}
_TRUE = {"y", "yes", "t", "true", "on", "1"}


def find_uv() -> str:
    """The ``uv`` program that came with trainenv, else the one on PATH."""
    try:
        from uv import find_uv_bin

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        import shutil

        if found := shutil.which("uv"):
            return found
    raise ChannelError(
        "the program uv was not found", hint="Reinstall trainenv with pip, which brings uv along"
    ) from None


@cache
def pip_settings() -> Mapping[str, tuple[str, ...]]:
    """pip's settings of sections ``global`` and ``install`` and of ``PIP_*``, by long option name.

    Read as pip reads them: site-wide, user's and interpreter's files in turn, then the environment;
    a later one replaces an earlier one. A list has an entry for each of its words, all else has one.
    """
    return {key: values for key, (values, _) in _stated().items()}


def pip_origins() -> dict[str, list[str]]:
    """The settings of pip that count here, by where they stand: a file, or ``variable PIP_NAME``."""
    found: dict[str, list[str]] = {}
    for key, (_, origin) in _stated().items():
        if key in _FOLLOWED:
            found.setdefault(origin, []).append(key)
    return found


def _stated() -> dict[str, tuple[tuple[str, ...], str]]:
    """Each of pip's settings, and where it stands."""
    found: dict[str, tuple[tuple[str, ...], str]] = {}
    files = _configuration_files()
    for section in ("global", "install"):
        for file in files:
            for key, value in _read(file, section):
                _set(found, key, value, str(file))
    for variable, value in os.environ.items():
        if variable.startswith("PIP_"):
            _set(found, variable[len("PIP_") :].lower(), value, f"variable {variable}")
    return found


def _read(file: Path, section: str) -> list[tuple[str, str]]:
    import configparser

    parser = configparser.RawConfigParser()
    try:
        parser.read(file, encoding="utf-8-sig")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ChannelError(f"pip's settings in {file} can't be read", cause=str(error), hint="Mend the file") from None
    return parser.items(section) if parser.has_section(section) else []


def _set(found: dict[str, tuple[tuple[str, ...], str]], key: str, value: str, origin: str) -> None:
    if not value.strip():
        return
    key = key.replace("_", "-")
    key = _FORMER_NAMES.get(key, key)
    found[key] = (tuple(value.split()) if key in _LISTS else (value.strip(),), origin)


def _configuration_files() -> list[Path]:
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    configuration = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    system = os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep)
    files = [Path(folder) / "pip" / "pip.conf" for folder in system if folder]
    files.append(Path("/etc/pip.conf"))
    if not (named and os.path.exists(named)):
        files += [Path("~/.pip/pip.conf").expanduser(), configuration / "pip" / "pip.conf"]
    files.append(Path(sys.prefix) / "pip.conf")
    if named:
        files.append(Path(named))
    return files


def uv_options(folder: Path | None = None) -> list[str]:
    """Options of ``uv pip install`` and ``compile``, run in ``folder``, that say what pip's settings say.

    What may hold a password is told by ``uv_environment``: other users see a command line.
    """
    settings = pip_settings()
    options = []
    if "UV_INDEX_STRATEGY" not in os.environ and not any(file.states("index-strategy") for file in uv_files(folder)):
        options += ["--index-strategy", "unsafe-best-match"]
    for place in _find_links():
        if without_credentials(place) == place:
            options += ["--find-links", place]
    for host in settings.get("trusted-host", ()):
        options += ["--allow-insecure-host", host]
    for option in ("no-binary", "only-binary"):
        for names in settings.get(option, ()):
            for name in names.split(","):
                options += [f"--{option}", name]
    if settings.get("no-index", ("0",))[0].lower() in _TRUE:
        options.append("--no-index")
    return options


def _find_links() -> list[str]:
    """The places of pip's ``find-links``; pip passes over a folder that is not there."""
    places = (place if "://" in place else _absolute(place) for place in pip_settings().get("find-links", ()))
    return [place for place in places if "://" in place or os.path.exists(place)]


def index_addresses() -> list[str]:
    """The indexes and ``find-links`` places that pip's settings name, with the secrets in them."""
    settings = pip_settings()
    return [*settings.get("index-url", ()), *settings.get("extra-index-url", ()), *_find_links()]


def named_indexes(folder: Path | None = None) -> list[tuple[str, str]]:
    """Each index and place of wheels that uv, run in ``folder``, is told of, and where that stands.

    Unlike ``index_addresses`` also folders that are not there, and not what uv's own settings put aside.
    """
    found = [(address, str(file.path)) for file in uv_files(folder) for address in file.indexes]
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"):
        found += [
            (_unnamed(word), f"variable {name}") for word in re.split(r"[\s,]+", os.environ.get(name, "")) if word
        ]
    settings = _stated()
    if not _uv_names_default(os.environ, folder):
        found += [(address, origin) for address, origin in _each(settings, "index-url")]
    if not (os.environ.get("UV_EXTRA_INDEX_URL") or os.environ.get("UV_INDEX")):
        found += _each(settings, "extra-index-url")
    return [*found, *_each(settings, "find-links")]


def _each(settings: Mapping[str, tuple[tuple[str, ...], str]], key: str) -> list[tuple[str, str]]:
    values, origin = settings.get(key, ((), ""))
    return [(value, origin) for value in values]


def _unnamed(index: str) -> str:
    """The address of an index that uv may be given as ``NAME=ADDRESS``."""
    name, separator, address = index.partition("=")
    return address if separator and "/" not in name else index


def _uv_names_default(variables: Mapping[str, str], folder: Path | None) -> bool:
    named = variables.get("UV_INDEX_URL") or variables.get("UV_DEFAULT_INDEX")
    return bool(named) or any(file.default_index for file in uv_files(folder))


def constraint_options() -> list[str]:
    """Options of ``uv pip compile`` for the constraint files of pip's settings."""
    options = []
    for file in pip_settings().get("constraint", ()):
        options += ["--constraint", file if "://" in file else _absolute(file)]
    return options


def _absolute(path: str) -> str:
    """A path of pip's settings; relative ones begin at the current folder, where uv may not run."""
    return os.path.abspath(os.path.expanduser(path))


def uv_environment(cache_dir: Path, folder: Path | None = None) -> dict[str, str]:
    """The variables under which to start uv in ``folder``: this process's own, with pip's settings and a cache.

    The cache lies under ``cache_dir``, on the file system of the environments, so that uv can link
    instead of copy; ``UV_CACHE_DIR`` puts it elsewhere.
    """
    settings = pip_settings()
    variables = dict(os.environ)
    for foreign in (
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "UV_PYTHON",
        "UV_SYSTEM_PYTHON",
        "PYTHONHOME",
        "PYTHONPATH",
    ):
        variables.pop(foreign, None)
    variables.setdefault("UV_CACHE_DIR", str(cache_dir / "uv"))
    if "index-url" in settings and not _uv_names_default(variables, folder):
        variables["UV_DEFAULT_INDEX"] = settings["index-url"][0]
    if "extra-index-url" in settings and not variables.get("UV_EXTRA_INDEX_URL"):
        variables.setdefault("UV_INDEX", " ".join(settings["extra-index-url"]))
    if secret := [place for place in _find_links() if without_credentials(place) != place]:
        variables["UV_FIND_LINKS"] = ",".join([*secret, *filter(None, [variables.get("UV_FIND_LINKS")])])
    if "cert" in settings:
        variables.setdefault("SSL_CERT_FILE", os.path.expanduser(settings["cert"][0]))
    if "timeout" in settings:
        variables.setdefault("UV_HTTP_TIMEOUT", _whole_seconds(settings["timeout"][0]))
    if "proxy" in settings:
        variables.setdefault("ALL_PROXY", settings["proxy"][0])
    variables["UV_NO_PROGRESS"] = "1"
    variables["COLUMNS"] = "100000"  # else it breaks its sentences at the width of the terminal
    variables.setdefault("RUST_LOG", "uv_installer=debug")  # which packages its cache lacks
    variables["UV_PYTHON_DOWNLOADS"] = "never"
    return variables


def _whole_seconds(timeout: str) -> str:
    try:
        return str(max(1, round(float(timeout))))
    except (ValueError, OverflowError):
        raise ChannelError(
            f"pip's setting timeout = {timeout} is not a number of seconds", hint="See `pip config list`"
        ) from None


def indexes_of_uv(folder: Path | None = None) -> list[str]:
    """The indexes and places of wheels that uv's own settings name, with the secrets in them."""
    own = " ".join(value for name, value in os.environ.items() if name.startswith("UV_"))
    return [*addresses_in(own), *(address for file in uv_files(folder) for address in file.indexes)]


def learn_indexes(access: Access, folder: Path | None = None) -> None:
    """Make ``access`` know the secrets in the addresses that pip's and uv's settings name."""
    for address in [*index_addresses(), *indexes_of_uv(folder)]:
        access.credentials.learn_index(address)


@contextmanager
def private_lock(pylock: Path, access: Access) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """``pylock`` as uv must read it, and the file descriptors that uv must inherit to do so.

    Where the token of an index stands in the path of its addresses, the lock is without it. Then it is
    a link beside the lock to a copy with the token, which lies in memory only.
    """
    learn_indexes(access)
    if not access.credentials.token_opens_index:
        yield pylock, ()
        return
    text = pylock.read_text(encoding="utf-8")
    for address in sorted(set(addresses_in(text)), key=len, reverse=True):
        text = text.replace(f'"{address}"', f'"{access.credentials.with_token(address)}"')
    link = pylock.with_name("pylock.private.toml")
    with in_memory(link.name, text) as (path, descriptor):
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        try:
            yield link, (descriptor,)
        finally:
            link.unlink()


def run_uv(
    arguments: Sequence[str],
    *,
    cache_dir: Path,
    folder: Path | None = None,
    standard_input: str = "",
    keep_open: tuple[int, ...] = (),
    on_line: Callable[[str], None] | None = None,
    access: Access | None = None,
    own_variables: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run ``uv ARGUMENTS`` in ``folder`` to its end; returns its exit code and its standard error.

    ``own_variables`` win over pip's settings; what ``UV_INDEX`` names comes to the indexes of these.

    ``on_line`` gets each line of standard error as it is written; ``DEBUG`` lines are for it alone.
    ``keep_open`` are file descriptors (locks) that uv inherits, so that they last as long as it does.
    Whatever ends this function early ends uv and the builds that it has started.
    """
    access = access or Access()
    learn_indexes(access, folder)
    with scratch_folder() as (scratch, scratch_lock):
        with access.uv_variables() as (variables, descriptors):
            process = subprocess.Popen(
                [find_uv(), *arguments],
                env={
                    "UV_HTTP_TIMEOUT": _whole_seconds(str(access.read_timeout)),
                    **_joined(uv_environment(cache_dir, folder), own_variables or {}),
                    **variables,
                    "TMPDIR": str(scratch),
                },
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                pass_fds=(*keep_open, *descriptors, scratch_lock),
                start_new_session=True,
            )
        return _followed(process, standard_input, on_line, access)


def _joined(variables: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    indexes = " ".join(filter(None, (each.get("UV_INDEX") for each in (own, variables))))
    return {**variables, **own, **({"UV_INDEX": indexes} if indexes else {})}


def _followed(
    process: subprocess.Popen[str], standard_input: str, on_line: Callable[[str], None] | None, access: Access
) -> tuple[int, str]:
    lines: list[str] = []
    with process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(standard_input)
                process.stdin.close()
            for line in map(access.public, process.stderr):
                if not line.startswith("DEBUG "):
                    lines.append(line)
                if on_line:
                    on_line(line.strip())
        except BaseException:
            # With all that it has started: a build in C++ goes on for long.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            raise
    return process.returncode, "".join(lines)

"""PyPI packages: where they come from, by the user's own pip settings, and the ``uv`` that fetches them.

uv reads neither ``pip.conf`` nor ``PIP_*``, but a team's mirrors, proxies and certificates stand
there. So pip's settings are read here and told to uv in its own words. What the user set for uv
itself (``UV_*``) is left alone and wins.
"""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from trainenv.errors import ChannelError

_LISTS = ("extra-index-url", "find-links", "trusted-host")


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
    a later one replaces an earlier one. Every value is a tuple of words.
    """
    found: dict[str, tuple[str, ...]] = {}
    files = _configuration_files()
    for section in ("global", "install"):
        for file in files:
            parser = configparser.RawConfigParser()
            try:
                parser.read(file, encoding="utf-8")
            except (configparser.Error, UnicodeDecodeError) as error:
                raise ChannelError(
                    f"pip's settings in {file} can't be read", cause=str(error), hint="Mend the file"
                ) from None
            if parser.has_section(section):
                found.update({key: tuple(value.split()) for key, value in parser.items(section) if value.strip()})
    for variable, value in os.environ.items():
        if variable.startswith("PIP_") and value.strip():
            key = variable[len("PIP_") :].lower().replace("_", "-").removeprefix("default-")
            found["timeout" if key == "timeout" else key] = tuple(value.split())
    return found


def _configuration_files() -> list[Path]:
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    configuration = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    system = os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep)
    files = [Path(folder) / "pip" / "pip.conf" for folder in system if folder]
    files += [
        Path("/etc/pip.conf"),
        Path("~/.pip/pip.conf").expanduser(),
        configuration / "pip" / "pip.conf",
        Path(sys.prefix) / "pip.conf",
    ]
    if named:
        files.append(Path(named))
    return files


def uv_options() -> list[str]:
    """Options of ``uv pip install`` and ``compile`` that say what pip's settings say."""
    settings = pip_settings()
    options = ["--index-strategy", "unsafe-best-match"]
    if "index-url" in settings and not _set_for_uv("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        options += ["--default-index", settings["index-url"][0]]
    for url in settings.get("extra-index-url", ()):
        options += ["--index", url]
    for place in settings.get("find-links", ()):
        options += ["--find-links", place]
    for host in settings.get("trusted-host", ()):
        options += ["--allow-insecure-host", host]
    if settings.get("no-index", ("0",))[0].lower() in ("1", "true", "yes", "on"):
        options.append("--no-index")
    return options


def uv_environment(cache_dir: Path) -> dict[str, str]:
    """The variables under which to start uv: this process's own, with pip's settings and a cache.

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
    if "cert" in settings:
        variables.setdefault("SSL_CERT_FILE", settings["cert"][0])
    if "timeout" in settings:
        variables.setdefault("UV_HTTP_TIMEOUT", settings["timeout"][0].split(".")[0])
    if "proxy" in settings:
        variables.setdefault("ALL_PROXY", settings["proxy"][0])
    variables["UV_NO_PROGRESS"] = "1"
    variables["UV_PYTHON_DOWNLOADS"] = "never"
    return variables


def _set_for_uv(*variables: str) -> bool:
    return any(os.environ.get(variable) for variable in variables)


def run_uv(
    arguments: Sequence[str],
    *,
    cache_dir: Path,
    folder: Path | None = None,
    standard_input: str = "",
    keep_open: tuple[int, ...] = (),
    on_line: Callable[[str], None] | None = None,
) -> tuple[int, str]:
    """Run ``uv ARGUMENTS`` in ``folder`` to its end; returns its exit code and its standard error.

    ``on_line`` gets each line of standard error as it is written. ``keep_open`` are file
    descriptors (locks) that uv inherits, so that they last as long as it does.
    """
    process = subprocess.Popen(
        [find_uv(), *arguments],
        env=uv_environment(cache_dir),
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        pass_fds=keep_open,
    )
    lines: list[str] = []
    with process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(standard_input)
                process.stdin.close()
            for line in process.stderr:
                lines.append(line)
                if on_line:
                    on_line(line.strip())
        except BaseException:
            process.terminate()
            raise
    return process.returncode, "".join(lines)

"""Finds a pip for an interpreter that may have none, with whatever this machine has.

Standard library only. An index is asked only where the user's own pip settings name one.
"""

from __future__ import annotations

import configparser
import glob
import html.parser
import http.client
import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator

OLDEST = (21, 3)
"""The first pip that installs a project without ``setup.py`` in place."""

DISTRIBUTION_WHEELS = "/usr/share/python-wheels"
"""Where Debian and Ubuntu keep them."""


def find_pip(interpreter: str, scratch: str) -> list[str] | None:
    """The command line of a pip that installs into ``interpreter``, or None where nothing gives one.

    What must be downloaded for it lies in the folder ``scratch``.
    """
    for command in _candidates(interpreter, scratch):
        version = _version_of(command)
        if version is None:
            continue
        if version < OLDEST:
            subprocess.run([*command, "install", "--quiet", "--upgrade", "pip"], check=False)
        return command
    return None


def _version_of(command: list[str]) -> tuple[int, ...] | None:
    """pip's version; None where ``command`` is no pip, or one too old to know ``--python``."""
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    match = re.match(r"pip (\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match and done.returncode == 0 else None


def _candidates(interpreter: str, scratch: str) -> Iterator[list[str]]:
    """Command lines that may be a pip for ``interpreter``: first its own, then the machine's, then new ones."""
    own = [interpreter, "-m", "pip"]
    yield own
    subprocess.run([interpreter, "-m", "ensurepip"], capture_output=True, check=False)
    yield own
    yield [sys.executable, "-m", "pip", "--python", interpreter]
    for program in filter(None, [shutil.which("pip3"), shutil.which("pip")]):
        yield [program, "--python", interpreter]
    for place in (_distributed_wheels, _wheels_from_settings, _wheels_from_debian):
        for wheel in place(scratch):
            yield [interpreter, f"{wheel}/pip"]
    if uv := shutil.which("uv"):
        subprocess.run([uv, "pip", "install", "--quiet", "--python", interpreter, "pip"], check=False)
        yield own


def _distributed_wheels(scratch: str) -> Iterator[str]:
    """What the distribution installs for its ``python3-venv``."""
    yield from glob.glob(f"{DISTRIBUTION_WHEELS}/pip-*.whl")


def _wheels_from_debian(scratch: str) -> Iterator[str]:
    """pip's wheel out of the distribution's own package, which any user can download.

    Container images come without the lists of packages, so these are fetched if need be, into
    ``scratch``.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return
    for folder in ("lists/partial", "archives/partial"):
        os.makedirs(f"{scratch}/{folder}")
    fetch = ["apt-get", "-qq", "download", "python3-pip-whl"]
    own_lists = [f"-oDir::State::lists={scratch}/lists", f"-oDir::Cache={scratch}", "-oAPT::Sandbox::User=root"]
    for commands in ([fetch], [["apt-get", "-qq", *own_lists, "update"], [*fetch, *own_lists]]):
        for command in commands:
            subprocess.run(command, cwd=scratch, capture_output=True, check=False)
        for package in glob.glob(f"{scratch}/python3-pip-whl*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, scratch], capture_output=True, check=False)
        if found := glob.glob(f"{scratch}/usr/share/python-wheels/pip-*.whl"):
            yield from found
            return


def _wheels_from_settings(scratch: str) -> Iterator[str]:
    """pip's newest wheel in each folder and index that pip's settings name."""
    settings = _pip_settings()
    for place in settings.get("find-links", "").split():
        yield from sorted(glob.glob(f"{place.removeprefix('file://')}/pip-*.whl"), key=_wheel_version)[-1:]
    context = ssl.create_default_context(cafile=settings.get("cert"))
    for index in f"{settings.get('index-url', '')} {settings.get('extra-index-url', '')}".split():
        page = f"{index.rstrip('/')}/pip/"
        try:
            links = _Links(_fetched(page, context).decode())
            wheels = [link for link in links.found if re.search(r"(^|/)pip-[\d.]+-py3-none-any\.whl(#|$)", link)]
            if not wheels:
                continue
            url = urllib.parse.urljoin(page, max(wheels, key=_wheel_version)).partition("#")[0]
            file = os.path.join(scratch, os.path.basename(url))
            with open(file, "wb") as out:
                out.write(_fetched(url, context))
        except (OSError, ValueError, http.client.HTTPException):
            continue
        yield file


def _fetched(url: str, context: ssl.SSLContext) -> bytes:
    """What ``url`` gives; a ``user:password@`` in it is sent as pip sends it."""
    parts = urllib.parse.urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urllib.parse.urlunsplit(parts._replace(netloc=host)))
    if user:
        import base64

        token = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    with urllib.request.urlopen(request, timeout=30, context=context) as answer:
        body: bytes = answer.read()
    return body


class _Links(html.parser.HTMLParser):
    """The targets of all links of a page, in ``found``."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for key, value in attrs if tag == "a" and key == "href" and value]


def _wheel_version(wheel: str) -> list[int]:
    match = re.search(r"pip-([\d.]+)-", wheel)
    return [int(part) for part in match[1].split(".") if part] if match else []


def _pip_settings() -> dict[str, str]:
    """Where pip's files and variables say that packages come from, by long option name."""
    found: dict[str, str] = {}
    configuration = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    named = os.environ.get("PIP_CONFIG_FILE", "")
    files = ["/etc/xdg/pip/pip.conf", "/etc/pip.conf", "~/.pip/pip.conf", f"{configuration}/pip/pip.conf", named]
    for file in files if named != os.devnull else []:
        parser = configparser.RawConfigParser()
        try:
            parser.read(os.path.expanduser(file))
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update(parser.items(section))
    for key in ("index-url", "extra-index-url", "find-links", "cert"):
        if value := os.environ.get("PIP_" + key.upper().replace("-", "_")):
            found[key] = value
    return found

"""Installs a project into an interpreter that may have no pip, with whatever this machine has.

Usage: python bootstrap.py INTERPRETER PROJECT

Standard library only. Packages come from where the user's own pip settings say.
"""

from __future__ import annotations

import configparser
import glob
import html.parser
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator


def installers(interpreter: str, scratch: str) -> Iterator[list[str]]:
    """Command lines to which ``install PROJECT`` can be added, the likeliest to work first."""
    yield [interpreter, "-m", "pip"]
    subprocess.run([interpreter, "-m", "ensurepip", "--upgrade"], capture_output=True, check=False)
    yield [interpreter, "-m", "pip"]
    yield [sys.executable, "-m", "pip", "--python", interpreter]
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        for program in ("pip3", "pip"):
            if os.access(os.path.join(folder, program), os.X_OK):
                yield [os.path.join(folder, program), "--python", interpreter]
    for uv in filter(None, [shutil.which("uv")]):
        if subprocess.run([uv, "pip", "install", "-q", "--python", interpreter, "pip"], check=False).returncode == 0:
            yield [interpreter, "-m", "pip"]
    for wheel in (*glob.glob("/usr/share/python-wheels/pip-*.whl"), *_wheel_from_debian(scratch)):
        yield [interpreter, f"{wheel}/pip"]
    for wheel in _wheel_from_index(scratch):
        yield [interpreter, f"{wheel}/pip"]


def _wheel_from_debian(scratch: str) -> list[str]:
    """pip's wheel out of the distribution's own package, which any user can download."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return []
    subprocess.run(["apt-get", "-qq", "download", "python3-pip-whl"], cwd=scratch, capture_output=True, check=False)
    for package in glob.glob(f"{scratch}/python3-pip-whl*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, scratch], check=False)
    return glob.glob(f"{scratch}/usr/share/python-wheels/pip-*.whl")


def _wheel_from_index(scratch: str) -> Iterator[str]:
    """pip's newest wheel from the folders and the index that pip's settings name."""
    settings = _pip_settings()
    for place in settings.get("find-links", "").split():
        yield from sorted(glob.glob(f"{place}/pip-*.whl"), key=_version)[-1:]
    for index in (settings.get("index-url", "") + " " + settings.get("extra-index-url", "")).split():
        page = f"{index.rstrip('/')}/pip/"
        try:
            with urllib.request.urlopen(page, timeout=30) as answer:
                links = _Links(answer.read().decode())
            wheels = [link for link in links.found if re.search(r"/pip-[\d.]+-py3-none-any\.whl", f"/{link}")]
            if wheels:
                url = urllib.parse.urljoin(page, max(wheels, key=_version)).split("#")[0]
                file = os.path.join(scratch, os.path.basename(url))
                urllib.request.urlretrieve(url, file)
                yield file
        except (OSError, ValueError):
            continue


class _Links(html.parser.HTMLParser):
    """The targets of all links of a page, in ``found``."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for key, value in attrs if tag == "a" and key == "href" and value]


def _version(wheel: str) -> list[int]:
    match = re.search(r"pip-([\d.]+)-", wheel)
    return [int(part) for part in match[1].split(".") if part] if match else []


def _pip_settings() -> dict[str, str]:
    found: dict[str, str] = {}
    home = os.environ.get("XDG_CONFIG_HOME", "~/.config")
    named = os.environ.get("PIP_CONFIG_FILE", "")
    for file in ("/etc/xdg/pip/pip.conf", "/etc/pip.conf", "~/.pip/pip.conf", f"{home}/pip/pip.conf", named):
        parser = configparser.RawConfigParser()
        try:
            parser.read(os.path.expanduser(file))
        except configparser.Error:
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update(parser.items(section))
    for key in ("index-url", "extra-index-url", "find-links"):
        if value := os.environ.get("PIP_" + key.upper().replace("-", "_")):
            found[key] = value
    return found


def main(interpreter: str, project: str) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        for command in installers(interpreter, scratch):
            if subprocess.run([*command, "--version"], capture_output=True, check=False).returncode == 0:
                return subprocess.run([*command, "install", "--quiet", "--editable", project], check=False).returncode
    print(
        "script/setup: no pip was found on this machine. Install one (on Debian and Ubuntu: apt-get install "
        "python3-venv), or name your package index: PIP_INDEX_URL=... script/demo",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))

"""An installed environment as a file that makes it again, in the formats that people and tools know.

``environment.yml`` for another machine, ``pixi.lock`` or ``@EXPLICIT`` for the same files again,
``requirements.txt`` and ``pylock.toml`` for its PyPI half. The same environment gives the same
bytes, and no password gets out.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainenv.channels import condarc
from trainenv.channels.access import Access
from trainenv.channels.conda import HOST
from trainenv.channels.pypi import run_uv, uv_options
from trainenv.credentials import without_credentials
from trainenv.environments import sbom
from trainenv.environments.environment import Environment
from trainenv.environments.from_lock import known_name
from trainenv.environments.locked import LockedEnvironment, LockedWheel, of_prefix
from trainenv.environments.lockfiles import explicit, pixi, pylock
from trainenv.environments.records import ENVIRONMENT_NOTE, canonical_name, distributions, python_version, read_note
from trainenv.errors import InstallError, UsageError
from trainenv.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")

_BOOTSTRAP = {"pip", "setuptools", "wheel"}
"""Every environment has them for itself; ``pip freeze`` leaves them out as well."""


def format_of(output: str) -> str:
    """The format that the name of an output file means. Raises ``UsageError`` where it means none."""
    name = Path(output).name.lower()
    if name.endswith((".yml", ".yaml")):
        return "environment.yml"
    if name.endswith(".lock"):
        return "pixi.lock"
    if name.endswith(".toml"):
        return "pylock.toml"
    if name.endswith(".json"):
        return "sbom"
    if name.endswith(".txt"):
        return "explicit" if "explicit" in name or "spec" in name else "requirements.txt"
    raise UsageError(f"{output} does not tell its format", hint=f"Give --format, one of {', '.join(FORMATS)}")


def export(
    settings: Settings, environment: Environment, format: str, *, builds: bool = True, from_history: bool = False
) -> str:
    """The text of ``environment`` in ``format`` (a key of ``FORMATS``).

    ``builds`` False leaves conda's build strings out of an ``environment.yml``; with ``from_history`` it has only
    what was asked for. Raises ``InstallError`` when a lock is asked for and nobody can say where a PyPI package
    came from.
    """
    if from_history and format != "environment.yml":
        raise UsageError(f"{format} has all that is installed", hint="Only an environment.yml has what was asked for")
    if format == "environment.yml":
        return environment_yml(settings, environment, builds=builds, from_history=from_history)
    return FORMATS[format](settings, environment)


def left_out(environment: Environment, format: str) -> list[str]:
    """The packages that ``format`` has no words for, by name."""
    here = environment.packages
    if format == "explicit":
        return [package.name for package in here if package.build == "pypi"]
    if format == "pylock.toml":
        return [package.name for package in here if package.build != "pypi"]
    if format == "requirements.txt":
        known = {found.key for found in distributions(environment.prefix)} | {"python"}
        return [package.name for package in here if package.build != "pypi" and package.name not in known]
    return []


def environment_yml(
    settings: Settings, environment: Environment, *, builds: bool = True, from_history: bool = False
) -> str:
    """conda's own format, with the PyPI packages in its ``pip:`` section."""
    import json

    from ruamel.yaml import YAML

    locked = of_prefix(environment.prefix)
    dependencies: list[Any] = [
        f"{item.name}={item.version}={item.build}" if builds else f"{item.name}=={item.version}"
        for item in locked.conda
    ]
    requirements = [wheel.requirement for wheel in locked.wheels]
    channels = _channel_names(settings, environment, locked)
    if from_history:
        note = read_note(environment.prefix, ENVIRONMENT_NOTE)
        dependencies, requirements = _asked_for(environment, note, locked.wheels)
        channels = list(settings.channels) if note.get("host_fallback") else channels
    if requirements:
        dependencies.append({"pip": [*_package_sources(environment), *requirements]})
    content: dict[str, Any] = {"name": environment.name, "channels": channels, "dependencies": dependencies}
    state = environment.prefix / "conda-meta" / "state"
    if state.is_file() and (variables := json.loads(state.read_bytes()).get("env_vars")):
        content["variables"] = dict(sorted(variables.items()))
    yaml = YAML()
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.BytesIO()
    yaml.dump(content, out)
    return out.getvalue().decode()


def _asked_for(
    environment: Environment, note: Mapping[str, Any], wheels: Sequence[LockedWheel]
) -> tuple[list[str], list[str]]:
    """The conda specs and the requirements that were asked for. Raises ``UsageError`` where no specs are noted.

    Of PyPI packages that a lock or another tool brought, nobody knows: those that no other one needs count.
    """
    from packaging.requirements import Requirement

    if "specs" not in note:
        raise UsageError(
            f"nobody noted what was asked for in {environment.name}",
            cause="another tool made it",
            hint="Take --no-builds, which names all packages",
        )
    by_place = {wheel.name: wheel.requirement for wheel in wheels if wheel.direct}
    noted = {text: canonical_name(Requirement(text).name) for text in note.get("requested", [])}
    installed = distributions(environment.prefix)
    needed = {canonical_name(match[0]) for each in installed for text in each.requires if (match := _NAME.match(text))}
    roots = [wheel.name for wheel in wheels if wheel.name not in {*by_place, *noted.values(), *needed}]
    asked = [text for text, name in noted.items() if name not in by_place]
    return [str(spec) for spec in note["specs"]], [*asked, *by_place.values(), *roots]


def _channel_names(settings: Settings, environment: Environment, locked: LockedEnvironment) -> list[str]:
    """The channels as another machine knows them: by name where they have one, else by URL."""
    urls = channel_urls(environment.prefix) or list(locked.channels)
    asked = [str(name) for name in read_note(environment.prefix, ENVIRONMENT_NOTE).get("channels", [])]
    if len(asked) != len(urls):
        asked = [known_name(settings, url) for url in urls]
    names = [
        name if name == HOST or ("://" not in name and not name.startswith((".", "/", "~"))) else url.rstrip("/")
        for name, url in zip(asked, urls, strict=True)
    ]
    return list(dict.fromkeys(without_credentials(name) for name in names))


def channel_urls(prefix: Path) -> list[str]:
    """The channels that the lock of ``prefix`` names; empty where it has none."""
    from trainenv.environments.lock import LOCK
    from trainenv.environments.lockfiles.yaml import load_mapping

    try:
        content = load_mapping(prefix / LOCK, (prefix / LOCK).read_text())
    except FileNotFoundError:
        return []
    channels = ((content.get("environments") or {}).get("default") or {}).get("channels") or []
    return [without_credentials(str(channel["url"])) for channel in channels]


def requirements_txt(settings: Settings, environment: Environment) -> str:
    """Every Python package as a pin; with hashes where all of them are known, as pip wants it."""
    locked = of_prefix(environment.prefix)
    own = {wheel.name: wheel for wheel in locked.wheels}
    wheels = [
        own.get(found.key) or LockedWheel(found.key, found.version, "")
        for found in distributions(environment.prefix)
        if found.key in own or found.key not in _BOOTSTRAP
    ]
    hashed = all(wheel.sha256 for wheel in wheels)
    lines = [f"# Python {python_version(environment.prefix)}"] if environment.python else []
    lines += _package_sources(environment) if own else []
    for wheel in wheels:
        lines.append(f"{wheel.requirement} \\\n    --hash=sha256:{wheel.sha256}" if hashed else wheel.requirement)
    return "\n".join(lines) + "\n"


def _package_sources(environment: Environment) -> list[str]:
    """The indexes and folders of wheels that requirements named, as lines in pip's format.

    Those of pip's settings are left out: each machine has its own.
    """
    found = read_note(environment.prefix, ENVIRONMENT_NOTE).get("package_sources", [])
    return [without_credentials(str(line)) for line in found]


def pixi_lock(settings: Settings, environment: Environment) -> str:
    """The whole environment, every file with its hash."""
    return pixi.dump(_located(settings, environment))


def pylock_toml(settings: Settings, environment: Environment) -> str:
    """The PyPI half, every file with its hash."""
    if environment.python is None:
        raise UsageError(f"{environment.name} has no Python, and so no PyPI packages", hint="Choose another format")
    return pylock.dump(_located(settings, environment).wheels, environment.python)


def explicit_list(settings: Settings, environment: Environment) -> str:
    """The conda half, every file with its hash."""
    return explicit.dump(of_prefix(environment.prefix))


def sbom_json(settings: Settings, environment: Environment) -> str:
    """Every package with purl, hash, license and what it depends on, as CycloneDX JSON."""
    return sbom.dump(environment.name, environment.prefix, of_prefix(environment.prefix))


FORMATS: dict[str, Callable[[Settings, Environment], str]] = {
    "environment.yml": environment_yml,
    "requirements.txt": requirements_txt,
    "pixi.lock": pixi_lock,
    "pylock.toml": pylock_toml,
    "explicit": explicit_list,
    "sbom": sbom_json,
}


def _located(settings: Settings, environment: Environment) -> LockedEnvironment:
    """``environment`` with the file of every PyPI package; the index is asked where nobody noted it."""
    locked = of_prefix(environment.prefix, channel_urls(environment.prefix))
    unknown = [wheel for wheel in locked.wheels if not wheel.is_exact]
    if not unknown:
        return locked
    found = {wheel.name: wheel for wheel in _asked(settings, environment, unknown)}
    wheels = tuple(
        replace(found[wheel.name], direct=wheel.direct) if wheel in unknown and wheel.name in found else wheel
        for wheel in locked.wheels
    )
    return replace(locked, wheels=wheels)


def _asked(settings: Settings, environment: Environment, wheels: Iterable[LockedWheel]) -> Iterable[LockedWheel]:
    lines = [wheel.requirement for wheel in wheels]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "pylock.toml")
        arguments = ["pip", "compile", "--quiet", "--no-deps", "--no-header", "--no-annotate"]
        arguments += ["--format", "pylock.toml", "--output-file", str(output)]
        arguments += ["--python", str(environment.prefix / "bin" / "python"), *uv_options(), "-"]
        code, message = run_uv(
            arguments,
            cache_dir=settings.cache_dir,
            standard_input="\n".join(lines) + "\n",
            access=Access.of(condarc.applied(settings)),
        )
        if code != 0:
            raise InstallError(
                f"nobody can say where {', '.join(lines)} in {environment.name} came from",
                cause=" ".join(message.split()),
                hint="Export it as environment.yml or requirements.txt, which need not know",
            )
        locked = pylock.read(output, output.read_text())
        return locked.wheels_for(environment.python or "")

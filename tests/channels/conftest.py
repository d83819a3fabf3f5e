"""Real interpreters of this machine, packaged once and installed into real prefixes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from trainenv.channels.host import HostChannel, Interpreter, find_interpreters, provide
from trainenv.progress import SilentReporter


def _install(channel: HostChannel, specs: list[str], prefix: Path, cache: Path) -> None:
    """Solve ``specs`` from ``channel`` alone and install the result into ``prefix``, as users' tools do."""
    import rattler

    async def solve_and_install() -> None:
        records = await rattler.solve(
            [rattler.Channel(channel.url)],
            specs,
            gateway=rattler.Gateway(cache_dir=cache / "repodata"),
            platforms=[str(rattler.Subdir.current()), "noarch"],  # type: ignore[list-item]
            virtual_packages=rattler.VirtualPackage.detect(rattler.VirtualPackageOverrides.from_env()),
        )
        await rattler.install(records, prefix, cache_dir=cache / "packages", show_progress=False)

    asyncio.run(solve_and_install())
    gc.collect()


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def interpreters(cache_dir: Path) -> list[Interpreter]:
    return find_interpreters(cache_dir)


@pytest.fixture(scope="session", params=["unpatched", "debian"])
def interpreter(request: pytest.FixtureRequest, interpreters: list[Interpreter]) -> Interpreter:
    """One interpreter as upstream makes it, and one that Debian or Ubuntu patched."""
    for one in interpreters:
        if one.layout is not None and one.layout.debian == (request.param == "debian"):
            return one
    pytest.skip(f"this machine has no {request.param} interpreter")


def _provide_exactly(cache_dir: Path, interpreter: Interpreter) -> HostChannel:
    channel = provide(cache_dir, SilentReporter(), lambda version: version == interpreter.version)
    assert list(channel.path.glob(f"linux-*/python-{interpreter.version}-*.conda"))
    return channel


@pytest.fixture(scope="session")
def provide_exactly() -> Callable[[Path, Interpreter], HostChannel]:
    """Provides a host channel with this interpreter under the given cache folder."""
    return _provide_exactly


@pytest.fixture(scope="session")
def install(cache_dir: Path) -> Callable[[HostChannel, list[str], Path], None]:
    """Makes a prefix from specs of a host channel."""
    return lambda channel, specs, prefix: _install(channel, specs, prefix, cache_dir)


@pytest.fixture(scope="session")
def prefix(interpreter: Interpreter, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment made of nothing but ``python`` from the host channel."""
    folder = tmp_path_factory.mktemp("envs") / f"host_{interpreter.version}"
    _install(_provide_exactly(cache_dir, interpreter), [f"python=={interpreter.version}"], folder, cache_dir)
    return folder

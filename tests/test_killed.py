"""Promise 1: killed at any moment, an environment is whole or absent, and the next command heals it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace, program, python_here
from tests.environments.test_generations import contents
from trainenv import Workspace, locks
from trainenv.environments import staging

POINTS = 8
"""Moments of a run at which it is killed, evenly spread over the time that it takes."""


def _staging(place: Workspace) -> list[Path]:
    folder = place.settings.envs_dir / ".trainenv" / "staging"
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _run(place: Workspace, arguments: Sequence[str]) -> float:
    """Run to the end, which must be a good one; returns the seconds it took."""
    begun = time.monotonic()
    done = subprocess.run(program(place, *arguments), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - begun


def _kill_after(place: Workspace, arguments: Sequence[str], seconds: float) -> None:
    process = subprocess.Popen(
        program(place, *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    # A uv that it had started goes on for a moment, and keeps its folder from being swept.
    while any(locks.holders_of(folder / "lock") for folder in _staging(place)):
        time.sleep(0.02)


def _assert_whole(place: Workspace, *, imports: Sequence[str]) -> None:
    environment = place.environment("chat")
    assert place.verify(environment, imports=False).problems == []
    subprocess.run([environment.prefix / "bin/python", "-c", f"import {', '.join(imports)}"], check=True)


def _kill_all_over(
    place: Workspace,
    arguments: Sequence[str],
    check: Callable[[], None],
    undo: Callable[[], None],
    points: int = POINTS,
) -> None:
    """Kill ``arguments`` at ``points`` moments of its run; check; the same command must then succeed."""
    _run(place, arguments)
    undo()
    whole = _run(place, arguments)
    undo()
    for point in range(points):
        _kill_after(place, arguments, whole * (point + 0.5) / points)
        check()
        undo()
        _run(place, arguments)
        check()
        assert _staging(place) == [], f"killed at point {point}, the next command left its remains"
        undo()


@pytest.fixture
def requirements(wheels: Path, tmp_path: Path) -> Path:
    file = tmp_path / "requirements.txt"
    file.write_text("needs_greeter\n")
    return file


def _remove_if_there(place: Workspace) -> None:
    if place.environments():
        place.remove("chat")


def test_create(workspace: Workspace, requirements: Path) -> None:
    def check() -> None:
        if workspace.settings.prefix_of("chat").exists():
            _assert_whole(workspace, imports=["greeter", "needs_greeter"])

    arguments = ["create", "-n", "chat", f"python={python_here()}", "-r", str(requirements)]
    _kill_all_over(workspace, arguments, check, lambda: _remove_if_there(workspace))


def test_install(workspace: Workspace, requirements: Path, wheels: Path) -> None:
    workspace.create("chat", f"python={python_here()}", files=[requirements])
    support.make_wheel(wheels, "added", requires=["greeter"])
    added = requirements.with_name("added.txt")
    added.write_text("added\n")
    kept = workspace.settings.root / "kept"
    subprocess.run(["cp", "-al", workspace.settings.prefix_of("chat"), kept], check=True)

    def check() -> None:
        names = {item.name for item in workspace.environment("chat").packages}
        _assert_whole(workspace, imports=["greeter", *(["added"] if "added" in names else [])])

    def undo() -> None:
        names = {item.name for item in workspace.environment("chat").packages}
        if "added" in names:
            prefix = workspace.settings.prefix_of("chat")
            subprocess.run(["rm", "-rf", prefix], check=True)
            subprocess.run(["cp", "-al", kept, prefix], check=True)

    _kill_all_over(workspace, ["install", "-n", "chat", "-r", str(added)], check, undo)


def test_rollback(workspace: Workspace, requirements: Path, wheels: Path) -> None:
    prefix = workspace.create("chat", f"python={python_here()}", files=[requirements]).prefix
    support.make_wheel(wheels, "added", requires=["greeter"])
    states = [contents(prefix)]
    workspace.install("chat", requirements=["added"])
    states.append(contents(prefix))

    def check() -> None:
        kept = [item.prefix for item in workspace.generations("chat") if not item.is_present]
        assert len(kept) == 1
        assert [contents(prefix), contents(kept[0])] in (states, states[::-1]), "each state is whole, byte for byte"

    _kill_all_over(workspace, ["env", "rollback", "chat"], check, lambda: None)
    _assert_whole(workspace, imports=["greeter"])


def test_unpack(make_workspace: MakeWorkspace, requirements: Path, tmp_path: Path) -> None:
    a = make_workspace("a")
    b = make_workspace("b/with/a/longer/path")
    archive = tmp_path / "chat.tar.zst"
    a.pack(a.create("chat", f"python={python_here()}", files=[requirements]), archive)

    def check() -> None:
        if b.settings.prefix_of("chat").exists():
            _assert_whole(b, imports=["greeter", "needs_greeter"])

    _kill_all_over(b, ["unpack", str(archive)], check, lambda: _remove_if_there(b))


@pytest.fixture
def data(make_workspace: MakeWorkspace, tmp_path: Path) -> Workspace:
    """A workspace with environment ``data``, of conda packages without Python, so that a run is short."""
    channel = support.make_channel(tmp_path / "channel")
    for name in ("one", "two"):
        files = {f"share/{name}/{number}": f"{name} {number}\n" for number in range(100)}
        support.add_package(channel, name, files=files, prefix_files={f"etc/{name}.conf": "root = @PREFIX@\n"})
    place = make_workspace(settings=f'channels = ["{channel}"]\nhost_fallback = false')
    place.create("data", "one=1", "two")
    support.add_package(channel, "one", "1.5", files={f"share/one/{number}": "new\n" for number in range(100)})
    return place


def _keeps_every_byte_or_is(
    place: Workspace, changed: dict[str, str], name: str = "data"
) -> tuple[Callable[[], None], Callable[[], None]]:
    """What checks that an environment is as now or has the packages ``changed``, and what makes it as now."""
    prefix = place.settings.prefix_of(name)
    kept = place.settings.root / "kept"
    subprocess.run(["cp", "-a", prefix, kept], check=True)
    before = contents(prefix)

    def is_changed() -> bool:
        return contents(prefix) != before

    def check() -> None:
        if is_changed():
            assert {item.name: item.version for item in place.environment(name).packages} == changed
            assert place.verify(place.environment(name), imports=False).problems == []

    def undo() -> None:
        if is_changed():
            subprocess.run(["rm", "-rf", prefix], check=True)
            subprocess.run(["cp", "-a", kept, prefix], check=True)

    return check, undo


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        (["remove", "-n", "data", "two"], {"one": "1.0"}),
        (["update", "-n", "data", "--all"], {"one": "1.5", "two": "1.0"}),
    ],
    ids=["remove", "update"],
)
def test_remove_and_update(data: Workspace, arguments: list[str], changed: dict[str, str]) -> None:
    check, undo = _keeps_every_byte_or_is(data, changed)
    _kill_all_over(data, arguments, check, undo)


def test_pip_install(workspace: Workspace, requirements: Path, wheels: Path) -> None:
    workspace.create("chat", f"python={python_here()}", files=[requirements])
    support.make_wheel(wheels, "added", requires=["greeter"])
    changed = {item.name: item.version for item in workspace.environment("chat").packages} | {"added": "1.0"}
    check, undo = _keeps_every_byte_or_is(workspace, changed, "chat")
    _kill_all_over(workspace, ["pip", "install", "-n", "chat", "added"], check, undo, points=5)


def test_repair(data: Workspace) -> None:
    prefix = data.settings.prefix_of("data")
    for number in range(0, 100, 2):
        (prefix / f"share/one/{number}").unlink()
    check, undo = _keeps_every_byte_or_is(data, {"one": "1.0", "two": "1.0"})
    _kill_all_over(data, ["env", "repair", "data"], check, undo)


def test_clone(data: Workspace) -> None:
    before = contents(data.settings.prefix_of("data"))

    def check() -> None:
        assert contents(data.settings.prefix_of("data")) == before
        if data.settings.prefix_of("copy").exists():
            assert data.verify(data.environment("copy"), imports=False).problems == []

    def undo() -> None:
        if data.settings.prefix_of("copy").exists():
            data.remove("copy")

    _kill_all_over(data, ["env", "clone", "data", "-n", "copy"], check, undo)


def test_rename(data: Workspace) -> None:
    old = data.settings.prefix_of("data")
    before = contents(old)

    def there() -> set[str]:
        return {item.name for item in data.environments()}

    def check() -> None:
        assert there()
        if "data" in there():
            assert contents(old) == before
        if "new" in there():
            assert data.verify(data.environment("new"), imports=False).problems == []

    forth, back = ["env", "rename", "data", "new"], ["env", "rename", "new", "data"]
    whole = _run(data, forth)
    _run(data, back)
    for point in range(POINTS):
        before = contents(old)
        _kill_after(data, forth, whole * (point + 0.5) / POINTS)
        check()
        if "data" in there():
            _run(data, forth)
        assert there() == {"new"}
        check()
        _run(data, back)
        assert _staging(data) == []


def test_a_renaming_that_was_cut_off_last_is_finished_by_the_next_change(data: Workspace) -> None:
    data.clone(data.environment("data"), "new")
    staging.mark_renamed(data.settings.prefix_of("new"), data.settings.prefix_of("data"))
    data.create("other", "one")
    assert {item.name for item in data.environments()} == {"new", "other"}
    data.create("data", "one")  # Another one of the former name is not taken for it.
    data.remove("other")
    assert {item.name for item in data.environments()} == {"data", "new"}
    assert data.verify(data.environment("new"), imports=False).problems == []


def test_mirror(data: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "mirror"

    def check() -> None:
        for repodata in folder.glob("*/repodata.json"):
            for name, record in json.loads(repodata.read_bytes())["packages"].items():
                file = repodata.with_name(name)
                assert hashlib.sha256(file.read_bytes()).hexdigest() == record["sha256"]

    def undo() -> None:
        subprocess.run(["rm", "-rf", folder], check=True)

    arguments = ["channel", "mirror", "data", "-o", str(folder)]
    whole = _run(data, arguments)
    for point in range(POINTS):
        undo()
        _kill_after(data, arguments, whole * (point + 0.5) / POINTS)
        check()
        _run(data, arguments)
        check()
        assert {file.name for file in (folder / "noarch").glob("*.bz2")} == {"one-1.0-0.tar.bz2", "two-1.0-0.tar.bz2"}
        assert list(folder.glob("*/.partial-*")) == []


def test_two_creates_of_one_name_one_wins_the_other_says_so(workspace: Workspace) -> None:
    command = program(workspace, "create", "-n", "chat", f"python={python_here()}")
    both = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(3)
    ]
    ends = [(process.communicate(timeout=120)[1], process.returncode) for process in both]
    assert sorted(code for _, code in ends) == [0, 1, 1]
    assert all("busy" in text or "exists already" in text for text, code in ends if code == 1)
    _assert_whole(workspace, imports=["pip"])

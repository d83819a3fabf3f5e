"""What uv says of a server, a repository or a package, as trainenv tells it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import support
from tests.conftest import RunCommand, python_here
from trainenv import Workspace


def _told(place: Workspace, trainenv: RunCommand, folder: Path, requirement: str) -> str:
    """What `trainenv create --dry-run` says where ``requirement`` is asked for."""
    file = folder / "requirements.txt"
    file.write_text(f"{requirement}\n")
    arguments = ["--dry-run", f"python={python_here()}", "-r", str(file)]
    return trainenv(place, "create", "-n", "one", *arguments).stderr


def test_what_git_can_not_fetch(
    workspace: Workspace, wheels: Path, trainenv: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, nowhere = tmp_path / "repository", support.refusing()
    git = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "init", "--quiet", str(repository)], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "first"], check=True)
    for place, reason in (
        (f"{repository.as_uri()}@v9", "couldn't find remote ref refs/tags/v9"),
        ((tmp_path / "gone").as_uri(), "does not appear to be a git repository"),
        (f"{nowhere}/x.git", "Failed to connect"),
    ):
        told = _told(workspace, trainenv, tmp_path, f"mine @ git+{place}")
        assert f"error: mine @ git+{place} can't be fetched: " in told
        assert reason in told
        assert "git ls-remote" in told
        assert f"line 1: mine @ git+{place}" in told


def test_a_file_that_can_not_be_fetched(
    workspace: Workspace, wheels: Path, trainenv: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with support.served(tmp_path, status=404) as url:
        for name in ("mine-1.0-py3-none-any.whl", "mine-1.0.tar.gz"):
            told = _told(workspace, trainenv, tmp_path, f"mine @ {url}/{name}")
            assert f"error: mine @ {url}/{name} can't be fetched: 404 Not Found. Check the network" in told
    nowhere = f"{support.refusing()}/mine-1.0-py3-none-any.whl"
    told = _told(workspace, trainenv, tmp_path, f"mine @ {nowhere}")
    assert f"error: mine @ {nowhere} can't be fetched: Connection refused (os error 111). " in told


def test_what_pip_would_warn_of(
    workspace: Workspace, wheels: Path, trainenv: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "! greeter==2.0 does not have an extra named loud" in _told(workspace, trainenv, tmp_path, "greeter[loud]")
    page = tmp_path / "simple" / "greeter" / "index.html"
    page.parent.mkdir(parents=True)
    name = "greeter-1.0-py3-none-any.whl"
    page.write_text(f'<a href="../../wheels/{name}" data-yanked="it shouts">{name}</a>')
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    with support.served(tmp_path) as url:
        monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
        told = _told(workspace, trainenv, tmp_path, "greeter==1.0")
    assert '! greeter==1.0 is yanked (reason: "it shouts")' in told

"""Signatures with real SSH keys, made and checked by the real ``ssh-keygen``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import RunCommand
from trainenv import Workspace
from trainenv.archives import signing
from trainenv.errors import ArchiveError, UsageError


def make_key(file: Path, passphrase: str = "") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", file], check=True)
    return file


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path / "keys/alice")


@pytest.fixture
def signers(key: Path, tmp_path: Path) -> Path:
    """Allows Alice, for archives only."""
    file = tmp_path / "allowed_signers"
    public = key.with_suffix(".pub").read_text()
    file.write_text(f'# who may\nalice@example.org namespaces="trainenv" {public}')
    return file


@pytest.fixture
def archive(tiny_archive: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_archive, tmp_path / "chat.tar.zst"))


def test_signed_it_unpacks_and_ssh_keygen_agrees(workspace: Workspace, archive: Path, key: Path, signers: Path) -> None:
    file = workspace.sign(archive, key)
    assert file == archive.with_name("chat.tar.zst.sig")
    by_hand = f"ssh-keygen -Y verify -n trainenv -f {signers} -I alice@example.org -s {file}"
    with archive.open("rb") as stream:
        subprocess.run(by_hand.split(), stdin=stream, check=True, capture_output=True)
    assert workspace.unpack(archive, allowed_signers=signers).name == "chat"
    found = workspace.signature(archive, allowed_signers=signers, verify=True)
    assert found is not None
    assert (found.signer, found.checked) == ("alice@example.org", True)
    fingerprint = subprocess.check_output(["ssh-keygen", "-lf", key], text=True).split()[1]
    assert found.key == f"ED25519 key {fingerprint}"


def test_what_is_not_signed_by_who_may_is_not_unpacked(
    workspace: Workspace, archive: Path, key: Path, signers: Path, tmp_path: Path
) -> None:
    def refused() -> str:
        with pytest.raises(ArchiveError) as error:
            workspace.unpack(archive, allowed_signers=signers)
        assert workspace.environments() == []
        return str(error.value)

    assert "is not signed: there is no chat.tar.zst.sig beside it" in refused()
    workspace.sign(archive, make_key(tmp_path / "keys/mallory"))
    assert "not signed by anybody who may: ED25519 key SHA256:" in refused()
    file = workspace.sign(archive, key)
    good = archive.read_bytes()
    archive.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert "is not what was signed" in refused()
    archive.write_bytes(good)
    workspace.verify(workspace.unpack(archive, allowed_signers=signers))
    workspace.remove("chat")
    file.write_text("no signature\n")
    assert "is not what was signed" in refused()
    file.unlink()
    command = f"ssh-keygen -q -Y sign -n git -f {key} {archive}"
    subprocess.run(command.split(), check=True, capture_output=True)
    assert "chat.tar.zst" in refused()  # for another purpose


def test_who_may_no_more_is_refused(workspace: Workspace, archive: Path, key: Path, signers: Path) -> None:
    workspace.sign(archive, key)
    public = key.with_suffix(".pub").read_text()
    signers.write_text(f'alice@example.org valid-before="20200101" {public}')
    with pytest.raises(ArchiveError, match="not signed by anybody who may"):
        workspace.unpack(archive, allowed_signers=signers)


def test_a_file_exchanged_after_the_check_is_not_used(
    workspace: Workspace, archive: Path, key: Path, signers: Path, small_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was read between check and use: overwritten, or another file under its name, and even back again."""
    workspace.sign(archive, key)
    kept = archive.with_name("kept")

    def overwritten() -> None:
        status = archive.stat()
        archive.write_bytes(archive.read_bytes())
        os.utime(archive, ns=(status.st_atime_ns, status.st_mtime_ns))

    def exchanged() -> None:
        archive.rename(kept)
        shutil.copy(small_archive, archive)

    def back_again() -> None:
        exchanged()
        kept.rename(archive)

    checked = signing._checked
    for attack in (overwritten, back_again, exchanged):

        def and_then(*arguments: object, attack: object = attack) -> object:
            found = checked(*arguments)  # type: ignore[arg-type]
            attack()  # type: ignore[operator]
            return found

        monkeypatch.setattr(signing, "_checked", and_then)
        with pytest.raises(ArchiveError, match="was changed while it was unpacked"):
            workspace.unpack(archive, allowed_signers=signers)
    assert workspace.environments() == []


@pytest.mark.parametrize("form", ["ours", "theirs"])
def test_a_file_changed_while_it_is_read_makes_no_environment(
    workspace: Workspace, archive: Path, key: Path, signers: Path, tmp_path: Path, form: str
) -> None:
    if form == "theirs":
        (tmp_path / "tree/conda-meta").mkdir(parents=True)
        (tmp_path / "tree/conda-meta/history").touch()
        archive = tmp_path / "theirs.tar"
        subprocess.run(["tar", "-cf", archive, "-C", tmp_path / "tree", "conda-meta"], check=True)
    workspace.sign(archive, key)

    class Meddler:
        """Touches the file when its members are being read."""

        def step(self, name: str, *arguments: object, **options: object) -> object:
            if name == "unpack":
                archive.write_bytes(archive.read_bytes())
            return silent.step(name, *arguments, **options)  # type: ignore[arg-type]

        def notice(self, text: str) -> None: ...

    silent = workspace.reporter
    workspace.reporter = Meddler()  # type: ignore[assignment]
    with pytest.raises(ArchiveError, match="was changed while it was unpacked"):
        workspace.unpack(archive, "chat", allowed_signers=signers)
    assert workspace.environments() == []


def test_the_workspace_can_demand_it(
    workspace: Workspace, archive: Path, key: Path, signers: Path, trainenv: RunCommand
) -> None:
    settings = workspace.settings.file
    settings.write_text(f'{settings.read_text()}require_signature = true\nallowed_signers = "{signers}"\n')
    assert "is not signed" in trainenv(workspace, "unpack", str(archive)).stderr
    workspace.sign(archive, key)
    shown = json.loads(trainenv(workspace, "inspect", str(archive), "--json").stdout)["signature"]
    assert (shown["signer"], shown["checked"]) == ("alice@example.org", False)
    done = trainenv(workspace, "unpack", str(archive))
    assert (done.returncode, "signed by alice@example.org" in done.stderr) == (0, True), done.stderr


def test_the_key_is_a_file_or_the_users_own(workspace: Workspace, archive: Path, own_home: Path) -> None:
    with pytest.raises(UsageError, match=r"no SSH key in .*\.ssh"):
        workspace.sign(archive)
    with pytest.raises(UsageError, match="there is no SSH key"):
        workspace.sign(archive, "missing")
    make_key(own_home / ".ssh/id_ed25519")
    assert workspace.sign(archive).read_text().startswith("-----BEGIN SSH SIGNATURE-----")


def test_a_public_key_does_with_an_agent(
    workspace: Workspace, archive: Path, key: Path, signers: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", tmp_path / "agent"], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        for _ in range(200):
            if subprocess.run(["ssh-add", "-q", key], check=False, capture_output=True).returncode == 0:
                break
        key.unlink()
        workspace.sign(archive, key.with_suffix(".pub"))
        workspace.unpack(archive, allowed_signers=signers)
    finally:
        agent.terminate()
        agent.wait()


def test_a_locked_key_without_a_terminal_says_so_and_leaves_nothing(
    workspace: Workspace, archive: Path, tmp_path: Path, trainenv: RunCommand
) -> None:
    key = make_key(tmp_path / "keys/locked", "a passphrase")
    made = workspace.settings.envs_dir / "chat"
    workspace.unpack(archive)
    output = tmp_path / "again.tar.zst"
    command = ["pack", "-n", made.name, "-o", str(output), "--sign", str(key)]
    done = trainenv(workspace, *command, start_new_session=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, "is not signed" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    assert not output.with_name(f"{output.name}.sig").exists()


def test_without_ssh_keygen_it_is_named(
    workspace: Workspace, archive: Path, signers: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    archive.with_name(f"{archive.name}.sig").touch()
    with pytest.raises(ArchiveError, match="need the program ssh-keygen"):
        workspace.unpack(archive, allowed_signers=signers)


def test_who_may_must_be_known(workspace: Workspace, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nobody is known who may sign"):
        workspace.unpack(archive, require_signature=True)
    with pytest.raises(UsageError, match="no file of allowed signers"):
        workspace.unpack(archive, allowed_signers=tmp_path / "missing")

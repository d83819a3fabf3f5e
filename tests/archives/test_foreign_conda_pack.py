"""Archives that the real conda-pack made become environments that work, in a place with a longer or shorter path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.archives.conftest import TELLER
from tests.conftest import MakeWorkspace
from trainenv import Workspace, relocation
from trainenv.archives.foreign.recognise import recognise
from trainenv.errors import ArchiveError, EnvironmentNotFoundError, RelocationError


def conda_pack(prefix: Path, output: Path, *options: str) -> Path:
    """What ``conda pack`` makes of the environment at ``prefix``."""
    program = [sys.executable, "-c", "from conda_pack.cli import main; main()"]
    subprocess.run([*program, "-q", "-p", prefix, "-o", output, *options], check=True)
    return output


@pytest.fixture(scope="module")
def packed(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conda_pack(environment, tmp_path_factory.mktemp("packed") / "chat.tar.gz", "--compress-level", "1")


def assert_works(workspace: Workspace, name: str, old: Path) -> None:
    """Its console script starts by itself, no file names the old prefix, and every record holds."""
    prefix = workspace.settings.prefix_of(name)
    clean = {"PATH": "/usr/bin:/bin"}
    assert subprocess.check_output([prefix / "bin/greet"], env=clean, text=True) == f"hello from {prefix}\n"
    assert subprocess.check_output([prefix / "bin/teller"], env=clean, text=True) == f"{prefix}/share\n"
    assert relocation.leftovers(prefix, [str(old)]) == []
    assert workspace.verify(workspace.environment(name), old_prefixes=[str(old)]).problems == []
    assert not (prefix / "bin/conda-unpack").exists()


def test_its_tar_gz_works_and_moves_on_as_our_own(
    packed: Path, environment: Path, workspace: Workspace, tmp_path: Path
) -> None:
    made = workspace.unpack(packed)
    assert made.name == "chat"
    assert_works(workspace, "chat", environment)
    again = workspace.pack(made, tmp_path / "ours.tar.zst")
    workspace.unpack(again.path, "third")
    assert_works(workspace, "third", made.prefix)


FORMS = {"tar.zst": [], "zip": [], "zip with links": ["--zip-symlinks"], "squashfs": []}


@pytest.mark.parametrize("name", FORMS)
def test_its_other_forms_are_told_by_content(
    environment: Path, workspace: Workspace, tmp_path: Path, name: str
) -> None:
    form, options = name.partition(" ")[0], FORMS[name]
    packed = conda_pack(environment, tmp_path / f"made.{form}", *options, "--compress-level", "1")
    disguised = packed.rename(tmp_path / "archive")
    kind = recognise(disguised)
    assert kind is not None
    assert (kind.packer, kind.container) == ("conda-pack", form)
    workspace.unpack(disguised, "chat")
    assert_works(workspace, "chat", environment)


def test_one_that_was_packed_for_a_place_is_moved_from_there(
    environment: Path, workspace: Workspace, tmp_path: Path
) -> None:
    """With --dest-prefix there is no conda-unpack to tell what the old prefix is; and a folder may be around it all."""
    there = "/opt/envs/chat_of_ours"
    packed = conda_pack(environment, tmp_path / "chat.tar", "--dest-prefix", there, "--arcroot", "opt/deep")
    made = workspace.unpack(packed)
    greet = made.prefix / "bin/greet"
    assert subprocess.check_output([greet], text=True) == f"hello from {made.prefix}\n"
    assert relocation.leftovers(made.prefix, [there]) == []


def test_it_works_in_a_folder_with_awkward_characters(
    packed: Path, environment: Path, make_workspace: MakeWorkspace
) -> None:
    place = make_workspace("Anna's modèles & more")
    place.unpack(packed, "chat")
    assert_works(place, "chat", environment)


def test_its_files_can_carry_another_prefix(packed: Path, environment: Path, workspace: Workspace) -> None:
    made = workspace.unpack(packed, prefix="/srv/envs/seen_elsewhere")
    assert (made.prefix / "bin/greet").read_text().startswith("#!/srv/envs/seen_elsewhere/bin/python")
    assert b"/srv/envs/seen_elsewhere/share" in (made.prefix / "bin/teller").read_bytes()


def test_what_conda_pack_never_fixes_is_named_where_it_has_no_room(
    environment: Path, workspace: Workspace, tmp_path: Path
) -> None:
    """A program that pip compiled has the prefix and no room beyond; conda-unpack would leave it as it is."""
    prefix = tmp_path / "e"
    subprocess.run(["cp", "-a", environment, prefix], check=True)
    source = tmp_path / "teller.c"
    source.write_text(TELLER.replace("[256]", "[]").replace("@PREFIX@", str(environment)))
    subprocess.run(["gcc", "-o", prefix / "bin/compiled", source], check=True)
    packed = conda_pack(environment, tmp_path / "chat.tar")
    subprocess.run(["tar", "-rf", packed, "-C", prefix, "bin/compiled"], check=True)
    with pytest.raises(RelocationError, match="bin/compiled has room for"):
        workspace.unpack(packed, prefix="/srv/" + "long" * 60)
    with pytest.raises(EnvironmentNotFoundError):
        workspace.environment("chat")
    made = workspace.unpack(packed, prefix="/srv/short")
    assert b"/srv/short/share" in (made.prefix / "bin/compiled").read_bytes()


def test_inspect_shows_and_proves_it(packed: Path, environment: Path, workspace: Workspace) -> None:
    shown = workspace.inspect(packed, verify=True).to_json()
    assert (shown["packer"], shown["container"], shown["platform"]) == ("conda-pack", "tar.gz", "linux-64")
    assert shown["host_needs"]["machine"] == "x86_64"
    assert {"python", "greeter"} <= {package["name"] for package in shown["packages"]}
    assert shown["verified"] > 1000
    assert shown["files"] == len(workspace.inspect(packed).manifest.files)


def test_inspect_finds_a_changed_file(environment: Path, workspace: Workspace, tmp_path: Path) -> None:
    packed = conda_pack(environment, tmp_path / "chat.tar")
    data = packed.read_bytes()
    changed = data.replace(
        b"def main():\n    import sys\n    print('hello", b"def main():\n    import sys\n    print('hullo", 1
    )
    assert changed != data
    packed.write_bytes(changed)
    with pytest.raises(ArchiveError, match=r"greeter/__init__\.py has another sha256"):
        workspace.inspect(packed, verify=True)


def test_our_own_archive_is_none_of_theirs(environment_archive: Path) -> None:
    assert recognise(environment_archive) is None


def test_the_program_unpacks_it(packed: Path, workspace: Workspace, trainenv) -> None:  # type: ignore[no-untyped-def]
    done = trainenv(workspace, "unpack", str(packed), "-n", "mine")
    assert (done.returncode, "Unpacked mine" in done.stdout) == (0, True), done.stderr
    assert trainenv(workspace, "run", "-n", "mine", "greet").returncode == 0

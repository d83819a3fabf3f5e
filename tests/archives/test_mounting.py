"""An environment that is a mounted image: as good as any other to use, and not to be changed."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.archives.conftest import make_prefix, pack
from tests.archives.test_formats import HOSTILE, image_of
from tests.conftest import MakeWorkspace, RunCommand, program
from trainenv import Workspace, relocation
from trainenv.archives import machine
from trainenv.errors import ArchiveError, EnvironmentExistsError, MountError, TrainenvError, UsageError

SETTINGS = '# Of the team.\nchannels = ["host"]  # no internet'


def mounted_below(folder: Path) -> list[str]:
    """The mount points below ``folder``, the innermost first."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        points = [line.split(" ")[1] for line in file]
    return [point for point in reversed(points) if point.startswith(f"{folder}/")]


def unmount(folder: Path) -> None:
    """What a restart of the machine does."""
    for point in mounted_below(folder):
        subprocess.run(["umount", point], check=True)


@pytest.fixture(scope="module")
def image(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real environment as an image, not to be changed."""
    return pack(environment, tmp_path_factory.mktemp("image") / "chat.squashfs", level=1).path


@pytest.fixture
def place(make_workspace: MakeWorkspace, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace, with a comma in its path as mount options have, in which nothing stays mounted."""
    yield make_workspace("b,c", SETTINGS)
    for point in mounted_below(tmp_path):
        subprocess.run(["umount", "-l", point], check=False)


def said(prefix: Path) -> tuple[str, str]:
    """What a console script and a compiled program of the environment say of their prefix."""
    greeted = subprocess.check_output([prefix / "bin/greet"], text=True)
    return greeted, subprocess.check_output([prefix / "bin/teller"], text=True)


def test_it_is_an_environment_at_its_own_prefix(image: Path, place: Workspace, trainenv: RunCommand) -> None:
    done = trainenv(place, "unpack", str(image), "--mount", "--json")
    shown = json.loads(done.stdout)
    prefix = place.settings.prefix_of("chat")
    assert (shown["status"], shown["image"], shown["prefix"]) == ("mounted", str(image), str(prefix))
    assert said(prefix) == (f"hello from {prefix}\n", f"{prefix}/share\n")
    assert trainenv(place, "run", "-n", "chat", "greet").stdout == f"hello from {prefix}\n"
    listed = json.loads(trainenv(place, "env", "list", "--json").stdout)
    assert [each["status"] for each in listed if each["prefix"] == str(prefix)] == ["mounted"]
    assert place.verify(place.environment("chat")).problems == []
    with pytest.raises(OSError, match="Read-only"):
        (prefix / "new").write_text("x")
    assert Workspace(place.settings.root).settings.mounts == {"chat": image}
    assert SETTINGS in place.settings.file.read_text()


def test_what_python_loads_names_its_place(image: Path, place: Workspace) -> None:
    """Cached bytecode is that of the archive, and says where its source is now all the same."""
    prefix = place.unpack(image, mount=True).prefix
    code = "import greeter; print(greeter.__cached__, greeter.main.__code__.co_filename)"
    cached, file = subprocess.check_output([prefix / "bin/python", "-c", code], text=True).split()
    assert Path(cached).is_file()
    assert relocation.PLACEHOLDER.encode() in Path(cached).read_bytes()
    assert file.startswith(f"{prefix}/lib/")


def test_it_comes_back_when_it_is_used(image: Path, place: Workspace, trainenv: RunCommand, tmp_path: Path) -> None:
    prefix = place.unpack(image, mount=True).prefix
    listed = place.environments()[0].to_json()
    unmount(tmp_path)
    assert place.environments()[0].to_json()["packages"] == listed["packages"] > 1
    uses: dict[str, list[str]] = {
        "run": ["run", "-n", "chat", "greet"],
        "run by prefix": ["run", "-p", str(prefix), "greet"],
        "list": ["list", "-n", "chat"],
        "verify": ["env", "verify", "-n", "chat"],
        "activate": ["activate", "chat"],
        "pack": ["pack", "-n", "chat", "-o", str(tmp_path / "again.squashfs"), "--level", "1"],
    }
    for use, arguments in uses.items():
        unmount(tmp_path)
        assert place.environments()[0].status == "unmounted", use
        done = trainenv(place, *arguments)
        assert done.returncode == 0, (use, done.stderr)
        assert place.environments()[0].status == "mounted", use
    assert (tmp_path / "again.squashfs").read_bytes() == image.read_bytes()


def test_a_method_trains_in_it(image: Path, place: Workspace, tmp_path: Path) -> None:
    place.unpack(image, mount=True)
    folder = place.settings.methods_dir / "where"
    folder.mkdir(parents=True)
    (folder / "method.yaml").write_text("name: where\nconda_env: chat\nstages: {train: {file: train.py}}\n")
    (folder / "train.py").write_text("import sys\nprint(sys.prefix)\n")
    unmount(tmp_path)
    task = place.train("where")
    assert task.status == "done"
    assert str(place.settings.prefix_of("chat")) in (task.folder / "output.log").read_text()


CHANGES = {
    "install": ["install", "-n", "chat", "greeter", "-y"],
    "pip install": ["pip", "install", "-n", "chat", "greeter"],
    "remove": ["remove", "-n", "chat", "greeter", "-y"],
    "rename": ["env", "rename", "chat", "talk"],
    "repair": ["env", "repair", "chat"],
    "rollback": ["env", "rollback", "chat"],
}


def test_it_can_not_be_changed_but_copied(image: Path, place: Workspace, trainenv: RunCommand, tmp_path: Path) -> None:
    place.unpack(image, mount=True)
    for change, arguments in CHANGES.items():
        done = trainenv(place, *arguments)
        assert done.returncode == 1, change
        assert f"mounted from {image}" in done.stderr, change
        assert "env clone chat" in done.stderr, change
    copy = place.clone(place.environment("chat"), "own").prefix
    assert said(copy) == (f"hello from {copy}\n", f"{copy}/share\n")
    assert relocation.leftovers(copy, [relocation.PLACEHOLDER, str(place.settings.prefix_of("chat"))]) == []
    place.remove("chat")
    assert said(copy)[0] == f"hello from {copy}\n"


def test_removed_it_leaves_nothing(image: Path, place: Workspace, tmp_path: Path, trainenv: RunCommand) -> None:
    before = place.settings.file.read_text()
    kept = tmp_path / "chat.squashfs"
    for state in ("mounted", "used", "unmounted", "without its image"):
        shutil.copy(image, kept)
        prefix = place.unpack(kept, mount=True).prefix
        if state == "unmounted":
            unmount(tmp_path)
        if state == "without its image":
            unmount(tmp_path)
            kept.unlink()
        elsewhere = subprocess.Popen(["sleep", "100"], cwd=prefix if state == "used" else "/")
        try:
            done = trainenv(place, "env", "remove", "chat", "-y")
        finally:
            elsewhere.kill()
            elsewhere.wait()
        assert done.returncode == 0, done.stderr
        assert mounted_below(tmp_path) == []
        assert not prefix.exists()
        assert place.settings.file.read_text().strip() == before.strip()
        assert list((place.settings.envs_dir / ".trainenv/mounts").iterdir()) == []


def test_it_is_not_removed_under_what_runs_in_it(image: Path, place: Workspace, trainenv: RunCommand) -> None:
    prefix = place.unpack(image, mount=True).prefix
    running = subprocess.Popen(program(place, "run", "-n", "chat", "sh", "-c", "echo up; sleep 100"), stdout=-1)
    try:
        assert running.stdout is not None
        running.stdout.readline()
        done = trainenv(place, "env", "remove", "chat", "-y")
    finally:
        running.kill()
        running.wait()
    assert done.returncode == 1
    assert said(prefix)[0] == f"hello from {prefix}\n"


def test_the_image_must_stay_what_it_was(image: Path, place: Workspace, tmp_path: Path) -> None:
    kept = tmp_path / "chat.squashfs"
    shutil.copy(image, kept)
    place.unpack(kept, mount=True)
    unmount(tmp_path)
    os.utime(kept)
    assert place.environment("chat").status == "mounted"
    unmount(tmp_path)
    kept.rename(tmp_path / "away")
    with pytest.raises(MountError, match=r"chat\.squashfs: No such file.*env remove chat"):
        place.environment("chat")
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    kept.write_bytes(data)
    with pytest.raises(MountError, match="is not the image any more"):
        place.environment("chat")
    (tmp_path / "away").replace(kept)
    assert place.environment("chat").status == "mounted"


def test_an_image_is_hashed_once(image: Path, place: Workspace, tmp_path: Path) -> None:
    """Unless somebody wrote to it, whatever time it says it is of."""

    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    kept = tmp_path / "chat.squashfs"
    shutil.copy(image, kept)
    time.sleep(0.1)  # What was written just now is not believed to be settled.
    spent = []
    for name in ("first", "second"):
        before = bytes_read()
        place.unpack(kept, name=name, mount=True)
        spent.append(bytes_read() - before)
    assert spent[0] > kept.stat().st_size > 2 * spent[1]
    of = kept.stat()
    with kept.open("r+b") as file:
        file.seek(of.st_size // 2)
        byte = file.read(1)[0]
        file.seek(of.st_size // 2)
        file.write(bytes([byte ^ 1]))
    os.utime(kept, ns=(of.st_atime_ns, of.st_mtime_ns))
    with pytest.raises(ArchiveError, match="are not what was packed"):
        place.unpack(kept, name="third", mount=True)


def test_a_damaged_image_is_refused(place: Workspace, tmp_path: Path) -> None:
    """Whichever byte it is: an image is not read through later on."""
    prefix = make_prefix(tmp_path / "chat")
    shutil.rmtree(prefix / "share")
    whole = pack(prefix, tmp_path / "chat.squashfs").path.read_bytes()
    chance = random.Random(5)
    damaged = tmp_path / "damaged.squashfs"
    for number in range(24):
        data = bytearray(whole)
        where = chance.randrange(len(data))
        if number % 4 == 0:
            del data[where:]
        else:
            data[where] ^= 1 << chance.randrange(8)
        damaged.write_bytes(data)
        with pytest.raises(TrainenvError, match=r"damaged\.squashfs"):
            place.unpack(damaged, mount=True)
        assert place.environments() == []
    assert mounted_below(tmp_path) == []
    assert not place.settings.mounts


@pytest.mark.parametrize("edit", [edit for edit in HOSTILE if edit != "nothing"])
def test_a_hostile_image_is_refused(edit: str, place: Workspace, tmp_path: Path) -> None:
    """With a sound footer and every sha256 of its pieces right."""
    prefix = make_prefix(tmp_path / "chat")
    shutil.rmtree(prefix / "share")
    archive = pack(prefix, tmp_path / "chat.squashfs").path
    root = pack(prefix, tmp_path / "root", format="folder").path
    HOSTILE[edit](root)
    for file in (root / "conda-meta/trainenv").glob("manifest.*"):
        file.unlink()
    hostile = image_of(root, tmp_path / "hostile.squashfs", archive)
    with pytest.raises(ArchiveError, match=r"hostile\.squashfs"):
        place.unpack(hostile, mount=True)
    assert mounted_below(tmp_path) == []


@pytest.mark.parametrize(
    "path", ["lib/python3/site-packages/pkg/plain.py", "lib/python3/site-packages/pkg/__pycache__/plain.*.pyc"]
)
def test_verify_finds_what_no_record_of_a_package_names(
    path: str, place: Workspace, trainenv: RunCommand, tmp_path: Path
) -> None:
    """An image that is sound, but for the content of one file."""
    prefix = make_prefix(tmp_path / "chat")
    shutil.rmtree(prefix / "share")
    archive = pack(prefix, tmp_path / "chat.squashfs").path
    root = pack(prefix, tmp_path / "root", format="folder").path
    for file in (root / "conda-meta/trainenv").glob("manifest.*"):
        file.unlink()
    (forged,) = root.glob(path)
    times = forged.stat().st_mtime, forged.stat().st_mtime
    forged.write_bytes(forged.read_bytes()[:-1] + b"!")
    os.utime(forged, times)
    for folder, _, _ in os.walk(root):
        os.utime(folder, (315532800, 315532800))
    place.unpack(image_of(root, tmp_path / "forged.squashfs", archive), mount=True)
    done = trainenv(place, "env", "verify", "chat")
    assert done.returncode == 1
    assert f"its image {tmp_path}/forged.squashfs is damaged: '{forged.relative_to(root)}' has not" in done.stderr
    assert "trainenv env remove chat" in done.stderr
    assert "repair" not in done.stderr


def test_another_image_in_its_place_is_not_taken_for_the_former(place: Workspace, tmp_path: Path) -> None:
    """Its files have the inodes, sizes and times of others that were read there before, and the same device."""
    prefix = make_prefix(tmp_path / "chat")
    shutil.rmtree(prefix / "share")
    tool = prefix / "lib/python3.1/site-packages/dist.py"
    os.utime(tool, (1_600_000_000, 1_600_000_000))
    before = pack(prefix, tmp_path / "before.squashfs").path
    place.unpack(before, "chat", mount=True)
    read = place.manifests([place.environment("chat")])
    place.remove("chat")
    tool.write_text("x = 2\n")
    os.utime(tool, (1_600_000_000, 1_600_000_000))
    place.unpack(pack(prefix, tmp_path / "after.squashfs").path, "chat", mount=True)
    delta = place.pack(place.environment("chat"), tmp_path / "delta.tar.zst", against=before)
    assert place.manifests([place.environment("chat")]) != read
    assert not next(file for file in delta.manifest.files if file.path.endswith("dist.py")).absent


def test_while_it_is_unmounted_its_name_is_taken(image: Path, place: Workspace, environment_archive: Path) -> None:
    """Another environment there would vanish under the image as soon as somebody used it."""
    prefix = place.unpack(image, mount=True).prefix
    unmount(place.settings.root)
    for file, mount in ((environment_archive, False), (image, True)):
        with pytest.raises(EnvironmentExistsError, match="'chat' exists already"):
            place.unpack(file, mount=mount)
    with pytest.raises(EnvironmentExistsError, match="'chat' exists already"):
        place.create("chat", "python")
    assert list(prefix.iterdir()) == []
    place.remove("chat")
    assert place.unpack(environment_archive).status == "ready"


def test_it_counts_as_what_is_here_also_after_a_restart(
    image: Path, environment: Path, place: Workspace, trainenv: RunCommand, tmp_path: Path
) -> None:
    place.unpack(image, mount=True)
    unmount(place.settings.root)
    delta = pack(environment, tmp_path / "delta.tar.zst", against=machine.other_side(image)).path
    assert place.unpack(delta, "copy").status == "ready"
    unmount(place.settings.root)
    listed = trainenv(place, "env", "manifest", "-o", str(tmp_path / "b.manifest"))
    assert listed.stdout.startswith("Listed 2 environments, ")


def test_only_an_image_can_be_mounted(
    environment_archive: Path, image: Path, place: Workspace, trainenv: RunCommand, tmp_path: Path
) -> None:
    (tmp_path / "empty.squashfs").write_bytes(b"")
    for file in (environment_archive, tmp_path / "empty.squashfs"):
        with pytest.raises(UsageError, match="can't be mounted"):
            place.unpack(file, mount=True)
    done = trainenv(place, "unpack", str(image), "--mount", "--from", str(image))
    assert (done.returncode, "Leave out" in done.stderr) == (2, True)
    place.unpack(image, mount=True)
    with pytest.raises(EnvironmentExistsError):
        place.unpack(image, mount=True)
    with pytest.raises(EnvironmentExistsError):
        place.unpack(image)
    assert place.environment("chat").status == "mounted"


def test_killed_it_is_there_or_not(image: Path, place: Workspace, tmp_path: Path) -> None:
    prefix = place.settings.prefix_of("chat")
    chance = random.Random(3)
    began = time.monotonic()
    subprocess.run(program(place, "unpack", str(image), "--mount"), check=True, capture_output=True)
    lasts = time.monotonic() - began
    place.remove("chat")
    for _ in range(4):
        running = subprocess.Popen(program(place, "unpack", str(image), "--mount"), stdout=-1, stderr=-1)
        time.sleep(lasts * chance.uniform(0.4, 1))
        running.send_signal(signal.SIGKILL)
        running.wait()
        listed = place.environments()
        if listed:
            assert place.environment("chat").status == "mounted"
            assert said(prefix)[0] == f"hello from {prefix}\n"
            place.remove("chat")
        assert subprocess.run(program(place, "unpack", str(image), "--mount"), check=False).returncode == 0
        assert said(prefix)[0] == f"hello from {prefix}\n"
        place.remove("chat")
        assert mounted_below(tmp_path) == []


def in_user_space(script: str) -> subprocess.CompletedProcess[str]:
    """Run ``script`` where the kernel mounts no image: as root of a namespace only. Nothing of it lives on."""
    alone = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return subprocess.run([*alone, "sh", "-ec", script], capture_output=True, text=True, timeout=100, check=False)


def test_without_the_kernel_programs_in_user_space_mount_it(image: Path, place: Workspace) -> None:
    """Also after whatever serves the mount was killed."""
    trainenv = shlex.join(program(place))
    script = f"""
    {trainenv} unpack {image} --mount >/dev/null
    {trainenv} run -n chat greet
    grep -c ' fuse' /proc/self/mounts
    for process in /proc/[0-9]*; do
        case $(tr '\\0' ' ' <$process/cmdline) in squashfuse*) kill -9 ${{process#/proc/}} ;; esac
    done
    while ls {place.settings.envs_dir}/.trainenv/mounts/chat/image >/dev/null 2>&1; do sleep 0.05; done
    {trainenv} env list --json | grep '"status": "unmounted"'
    {trainenv} run -n chat greet
    {trainenv} env remove chat -y >/dev/null
    grep -c {place.settings.root} /proc/self/mounts || true
    chmod -R g+rwX,g+s {place.settings.root}
    {trainenv} unpack {image} --mount >/dev/null
    grep -c allow_other /proc/self/mounts
    stat -c %A {place.settings.envs_dir}/.trainenv/mounts/chat/relocated/conda-meta
    {trainenv} env remove chat -y >/dev/null
    """
    done = in_user_space(script)
    hello = f"hello from {place.settings.prefix_of('chat')}"
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    assert lines[0] == hello
    assert int(lines[1]) >= 1
    assert '"status": "unmounted"' in lines[2]
    assert lines[3:5] == [hello, "0"]
    assert (int(lines[5]) >= 1, lines[6]) == (True, "drwxrwsr-x"), "A group's mounts are for all its members"


def test_where_nothing_mounts_it_is_said_what_to_do(image: Path, place: Workspace, tmp_path: Path) -> None:
    for name in ("mount", "umount", "sh"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    done = in_user_space(f"PATH={tmp_path} {shlex.join(program(place))} unpack {image} --mount")
    assert done.returncode == 1
    assert "there is no program squashfuse. Install the package squashfuse, or unpack it" in done.stderr
    assert "Traceback" not in done.stderr
    assert place.environments() == []

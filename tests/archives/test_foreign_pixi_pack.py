"""Archives of pixi-pack, put together here by the layout it documents: its program is not among the tests' tools."""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import support
from tests.conftest import python_here
from trainenv import Workspace
from trainenv.archives.foreign.recognise import recognise
from trainenv.channels.pypi import pip_settings
from trainenv.environments.records import conda_records
from trainenv.errors import ArchiveError, InstallError, UsageError

HEADER = "#!/usr/bin/env bash\n$TEMPDIR/pixi-unpack\nexit 0\n@@END_HEADER@@\n\n"
FOOTER = "\n@@END_ARCHIVE@@\n"


def platform_here() -> str:
    return {"x86_64": "linux-64"}.get(platform.machine(), f"linux-{platform.machine()}")


def write_layout(folder: Path, channel: Path, files: list[Path], metadata: dict[str, str] | None = None) -> None:
    """``pixi-pack.json``, ``channel/SUBDIR`` and ``pypi`` as in the archive, with the packages named."""
    for subdir in sorted({file.parent.name for file in files}):
        (folder / "channel" / subdir).mkdir(parents=True)
        known = json.loads((channel / subdir / "repodata.json").read_text())
        entries = {**known["packages"], **known["packages.conda"]}
        chosen = [file for file in files if file.parent.name == subdir]
        for file in chosen:
            shutil.copy(file, folder / "channel" / subdir)
        repodata = {
            "info": {"subdir": subdir},
            "packages": {},
            "packages.conda": {file.name: entries[file.name] for file in chosen},
            "version": 2,
        }
        (folder / "channel" / subdir / "repodata.json").write_text(json.dumps(repodata))
    content = {"version": "1", "pixi-pack-version": "0.7.0", "platform": platform_here()} | (metadata or {})
    (folder / "pixi-pack.json").write_text(json.dumps(content))
    (folder / "environment.yml").write_text("channels:\n  - ./channel\n  - nodefaults\ndependencies: []\n")


def tarred(folder: Path, output: Path) -> Path:
    with tarfile.open(output, "w") as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, str(path.relative_to(folder)), recursive=False)
    return output


Small = Callable[..., Path]


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """Makes an archive of one package that needs no interpreter."""

    def make(metadata: dict[str, str] | None = None, spoil: Callable[[Path], None] = lambda _: None) -> Path:
        channel = support.make_channel(tmp_path / "source")
        file = support.add_package(channel, "tool", prefix_files={"etc/tool.conf": "root=@PREFIX@\n"})
        folder = tmp_path / "layout"
        write_layout(folder, channel, [file], metadata)
        spoil(folder)
        return tarred(folder, tmp_path / "environment.tar")

    return make


def test_conda_packages_and_wheels_without_any_network(
    workspace: Workspace, tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = workspace.create("source", f"python={python_here()}")
    (record,) = [record for record in conda_records(source.prefix) if record.name == "python"]
    channel = shared_cache / "host"
    files = [channel / str(each.content["subdir"]) / str(each.content["fn"]) for each in conda_records(source.prefix)]
    folder = tmp_path / "layout"
    write_layout(folder, channel, files)
    support.make_wheel(
        folder / "pypi",
        "greeter",
        files={"greeter/__init__.py": "def main():\n    import sys\n    print('hello from', sys.prefix)\n"},
        scripts={"greet": "greeter:main"},
    )
    archive = tarred(folder, tmp_path / "environment.tar")
    monkeypatch.setenv("PIP_INDEX_URL", f"{support.refusing()}/simple")
    pip_settings.cache_clear()
    made = workspace.unpack(archive, "mine")
    assert subprocess.check_output([made.prefix / "bin/greet"], text=True) == f"hello from {made.prefix}\n"
    assert made.python == record.content["version"]
    assert workspace.verify(made).problems == []
    shown = workspace.inspect(archive, verify=True).to_json()
    assert (shown["packer"], shown["python"], shown["verified"]) == ("pixi-pack", made.python, len(files))
    assert {"name": "greeter", "version": "1.0", "build": "pypi"} in shown["packages"]


def test_its_packages_stay_as_long_as_they_are_needed(tmp_path: Path, small: Small) -> None:
    archive = small()
    (root := tmp_path / "b").mkdir()
    workspace = Workspace(root)
    workspace.unpack(archive, "one")
    made = workspace.unpack(archive, "two")
    archive.unlink()
    (made.prefix / "etc/tool.conf").write_text("broken\n")
    workspace.repair("two")
    assert (made.prefix / "etc/tool.conf").read_text() == f"root={made.prefix}\n"
    (store,) = (workspace.settings.cache_dir / "unpacked").glob("*/channel/noarch/tool-1.0-0.tar.bz2")
    workspace.remove("one")
    workspace.clean()
    assert store.exists()
    workspace.remove("two")
    assert "unpacked channels" in {item.kind for item in workspace.clean()}
    assert not store.exists()


def test_a_self_extracting_one(workspace: Workspace, small: Small, tmp_path: Path) -> None:
    text = base64.b64encode(small().read_bytes()).decode()
    script = tmp_path / "environment.sh"
    for program in ("pixi-pack", "pixi-unpack"):
        header = HEADER.replace("pixi-unpack", program)
        script.write_text(f"{header}{text}{FOOTER}{base64.b64encode(b'program').decode()}")
        kind = recognise(script)
        assert kind is not None
        assert (kind.packer, kind.container) == ("pixi-pack", "sh")
    made = workspace.unpack(script)
    assert (made.name, (made.prefix / "etc/tool.conf").read_text()) == ("environment", f"root={made.prefix}\n")
    script.write_text(f"{HEADER}{text[: len(text) // 12 * 4]}{FOOTER}")
    with pytest.raises(ArchiveError, match="is damaged"):
        workspace.unpack(script, "cut")


def test_a_changed_package_is_refused(workspace: Workspace, small: Small) -> None:
    def spoil(folder: Path) -> None:
        file = folder / "channel/noarch/tool-1.0-0.tar.bz2"
        file.write_bytes(file.read_bytes() + b"\0")

    archive = small(spoil=spoil)
    with pytest.raises(InstallError, match="sha256 hash differs"):
        workspace.unpack(archive, "bad")
    with pytest.raises(ArchiveError, match=r"tool-1\.0-0\.tar\.bz2 has another sha256"):
        workspace.inspect(archive, verify=True)
    assert workspace.environments() == []


@pytest.mark.parametrize(
    ("metadata", "message"),
    [({"platform": "osx-arm64"}, "made for osx-arm64"), ({"version": "2"}, "version '2' of pixi-pack")],
)
def test_one_that_is_not_for_here_leaves_nothing(
    workspace: Workspace, small: Small, metadata: dict[str, str], message: str
) -> None:
    before = set((workspace.settings.cache_dir / "unpacked").glob("*"))
    with pytest.raises(ArchiveError, match=message):
        workspace.unpack(small(metadata), "bad")
    assert set((workspace.settings.cache_dir / "unpacked").glob("*")) == before


def test_a_package_outside_is_refused(workspace: Workspace, small: Small, tmp_path: Path) -> None:
    def spoil(folder: Path) -> None:
        repodata = folder / "channel/noarch/repodata.json"
        content = json.loads(repodata.read_text())
        (name,) = content["packages.conda"]
        outside = tmp_path / "source/noarch" / name
        content["packages.conda"] = {f"../../../{name}": content["packages.conda"][name]}
        assert hashlib.sha256(outside.read_bytes()).hexdigest() in repodata.read_text()
        repodata.write_text(json.dumps(content))

    with pytest.raises(ArchiveError):
        workspace.unpack(small(spoil=spoil), "bad")
    assert workspace.environments() == []


def test_it_takes_no_prefix(workspace: Workspace, small: Small) -> None:
    with pytest.raises(UsageError, match="can't be given another prefix"):
        workspace.unpack(small(), "mine", prefix="/srv/mine")

"""A conda package whose files would go elsewhere than into the prefix is refused by name, before any is linked."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import support
from tests.conftest import RunCommand
from tests.environments.test_generations import contents
from trainenv import Workspace
from trainenv.channels.package_check import Roads, fault
from trainenv.errors import InstallError

TEXT = "x\n"


@dataclasses.dataclass
class Package:
    """A package as its maker wants it: ``paths`` None lists what it has, and ``links`` are symlinks by path."""

    files: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"share/a": TEXT})
    links: Mapping[str, str] = dataclasses.field(default_factory=dict)
    paths: Any = None
    link: Any = None

    def add_to(self, channel: Path, name: str) -> None:
        index = {"name": name, "version": "1.0", "build": "0", "build_number": 0, "depends": [], "subdir": "noarch"}
        index["noarch"] = "python" if self.link else "generic"
        paths = self.paths
        if paths is None:
            paths = [listed(path, text) for path, text in self.files.items()]
            paths += [{"_path": path, "path_type": "softlink"} for path in self.links]
        members = {path: text.encode() for path, text in self.files.items()}
        members["info/index.json"] = json.dumps(index).encode()
        members["info/paths.json"] = json.dumps({"paths": paths, "paths_version": 1}).encode()
        if self.link:
            members["info/link.json"] = json.dumps(self.link).encode()
        file = channel / "noarch" / f"{name}-1.0-0.tar.bz2"
        with tarfile.open(file, "w:bz2") as tar:
            for path, target in self.links.items():
                member = tarfile.TarInfo(path)
                member.type, member.linkname = tarfile.SYMTYPE, target
                tar.addfile(member)
            for path, data in members.items():
                member = tarfile.TarInfo(path)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        raw = file.read_bytes()
        repodata = channel / "noarch" / "repodata.json"
        content = json.loads(repodata.read_text())
        content["packages"][file.name] = index | {"sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw)}
        repodata.write_text(json.dumps(content))


def listed(path: str, text: str = TEXT) -> dict[str, Any]:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"_path": path, "path_type": "hardlink", "sha256": digest, "size_in_bytes": len(text)}


def _program(name: str) -> dict[str, Any]:
    return {"noarch": {"type": "python", "entry_points": [f"{name} = a:b"]}, "package_metadata_version": 1}


HOSTILE = {
    "dots": (Package(paths=[listed("../../evil")]), "leads out of the environment"),
    "dots-inside": (Package(paths=[listed("site-packages/../../evil")]), "leads out of the environment"),
    "absolute": (Package(paths=[listed("/evil")]), "an absolute path"),
    "program": (Package(link=_program("../../evil")), "no name of a program"),
    "program-absolute": (Package(link=_program("/evil")), "no name of a program"),
    "record": (Package({"conda-meta/evil-1-0.json": TEXT}), "no package's to write"),
    "not-there": (Package(paths=[listed("share/evil")]), "which it lists"),
    "file-and-folder": (Package(paths=[listed("share/a"), listed("share/a/evil")]), "the folder of another"),
    "nonsense": (Package(paths="nonsense"), "not a list of files"),
    "wrong-types": (Package(paths=[{"_path": 5}]), "not a list of files"),
}


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = support.make_channel(tmp_path / "channel")
    support.add_package(folder, "base", files={"share/base.txt": "base\n"})
    return folder


@pytest.fixture
def place(tmp_path: Path, channel: Path) -> Workspace:
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "trainenv.toml").write_text(f'channels = ["{channel}"]\nhost_fallback = false\n')
    return Workspace(root)


@pytest.mark.parametrize("kind", HOSTILE)
def test_it_is_refused_by_name_and_nothing_is_written(
    kind: str, place: Workspace, channel: Path, tmp_path: Path
) -> None:
    package, reason = HOSTILE[kind]
    package.add_to(channel, "hostile")
    before = contents(place.create("chat", "base").prefix)
    for _ in range(2):  # The second time it comes out of the package cache.
        with pytest.raises(InstallError, match=rf"package hostile-1\.0-0 is not to be trusted: .*{reason}"):
            place.install("chat", "hostile")
    assert contents(place.settings.prefix_of("chat")) == before
    assert [file for file in tmp_path.rglob("evil*") if "cache/pkgs" not in str(file)] == []
    assert not Path("/evil").exists()


def test_the_program_says_it_in_one_line(place: Workspace, channel: Path, trainenv: RunCommand) -> None:
    HOSTILE["absolute"][0].add_to(channel, "hostile")
    done = trainenv(place, "create", "-n", "chat", "hostile")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("trainenv: error: package hostile-1.0-0 is not to be trusted")
    assert done.stderr.count("error") == 1
    assert "panicked" not in done.stderr


def test_a_link_out_of_the_prefix_is_no_way_for_another_package(
    place: Workspace, channel: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    Package({}, {"share/out": str(outside)}).add_to(channel, "way")
    Package({"share/out/evil": TEXT}).add_to(channel, "walker")
    with pytest.raises(InstallError, match="written through 'share/out'"):
        place.create("both", "way", "walker")
    place.create("chat", "way")  # A link out alone does no harm.
    with pytest.raises(InstallError, match=r"walker-1\.0-0 is not to be trusted: .*written through 'share/out'"):
        place.install("chat", "walker")
    assert list(outside.iterdir()) == []
    assert {item.name for item in place.environment("chat").packages} == {"way"}


def test_links_inside_and_two_entries_of_one_file_are_no_harm(place: Workspace, channel: Path) -> None:
    linked = Package({"lib/real/a": TEXT}, {"lib/alias": "real"})
    linked.paths = [listed("lib/real/a"), listed("lib/real/a"), {"_path": "lib/alias", "path_type": "softlink"}]
    linked.add_to(channel, "linked")
    made = place.create("chat", "linked")
    assert (made.prefix / "lib/alias/a").read_text() == TEXT


def test_whichever_of_two_packages_comes_second_is_refused(tmp_path: Path) -> None:
    walker = tmp_path / "walker"
    (walker / "lib/python3.11/site-packages/out").mkdir(parents=True)
    (walker / "lib/python3.11/site-packages/out/evil").touch()
    way = tmp_path / "way"
    (way / "site-packages").mkdir(parents=True)
    roads = Roads()
    assert roads.fault("walker", walker, []) is None
    assert "a link of way" in (roads.fault("way", way, ["site-packages/out"]) or "")
    roads = Roads()
    assert roads.fault("way", way, ["site-packages/out"]) is None
    assert "a link of way" in (roads.fault("walker", walker, []) or "")


def test_records_that_are_no_json_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "info").mkdir()
    (tmp_path / "info/paths.json").write_text("{")
    assert "can't be read" in (fault(tmp_path) or "")

"""What an archive needs of a machine, and what is said of it before the first byte is written."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.archives.conftest import make_prefix, pack
from tests.conftest import RunCommand
from trainenv import Workspace, archives, settings
from trainenv.archives.host_needs import NeedsCollector
from trainenv.archives.hosts import Host, HostCheck, host_checks, read_host, this_host
from trainenv.archives.manifest import HostNeeds, Manifest, Package
from trainenv.errors import ArchiveError, UsageError
from trainenv.progress import SilentReporter
from trainenv.relocation import Needs

CUDA_12 = Package("nvidia-cuda-runtime-cu12", "12.4.127", "pypi")


@pytest.fixture
def manifest(small_archive: Path) -> Manifest:
    return archives.read_manifest(small_archive)


def _lacking(manifest: Manifest, needs: HostNeeds, host: Host) -> dict[str, HostCheck]:
    checks = host_checks(dataclasses.replace(manifest, host_needs=needs), host)
    return {check.state: check for check in checks if check.state != "ok"}


def test_nothing_is_lacking_where_it_was_packed(manifest: Manifest, tmp_path: Path) -> None:
    here = this_host(tmp_path)
    needs = HostNeeds(here.machine, here.glibc, "lib/a.so", here.glibcxx, cpu=here.cpu)
    checks = host_checks(dataclasses.replace(manifest, host_needs=needs), here, target_prefix="/opt/chat")
    assert {"processor", "glibc", "disk space of", "paths of"} <= {check.name for check in checks}
    assert [check for check in checks if check.state != "ok"] == []


def test_processor_glibc_disk_and_long_paths_are_errors(manifest: Manifest, tmp_path: Path) -> None:
    here = this_host(tmp_path / "not/there/yet")
    assert _lacking(manifest, HostNeeds(here.machine, "2.4", "lib/a.so"), here) == {}
    old = _lacking(manifest, HostNeeds(here.machine, "99.1", "lib/a.so"), here)["error"]
    assert str(old) == f"it needs glibc 99.1 (lib/a.so) and this machine has {here.glibc}"
    other = _lacking(manifest, HostNeeds("pdp11", "99.1", "lib/a.so"), here)["error"]
    assert str(other) == f"it needs processor pdp11 and this machine has {here.machine}"
    level = _lacking(manifest, HostNeeds("x86_64", cpu="x86_64_v3"), Host("b", "x86_64", cpu="x86_64_v2"))
    assert level["error"].has == "x86_64_v2"
    musl = _lacking(manifest, HostNeeds("x86_64", "2.17", "lib/a.so"), Host("b", "x86_64"))
    assert musl["error"].has == "none"
    full = host_checks(manifest, dataclasses.replace(here, free_bytes=1))
    assert [check.name for check in full if check.state == "error"] == ["disk space of"]
    long = host_checks(manifest, here, target_prefix="/" + "x" * 4090)
    assert [check.name for check in long if check.state == "error"] == ["paths of"]


def test_what_only_a_part_of_it_needs_is_a_warning(manifest: Manifest) -> None:
    host = Host("b", "x86_64", glibc="2.36", glibcxx="3.4.30", cuda="11.8", libraries=frozenset({"libz.so.1"}))
    needs = HostNeeds("x86_64", glibcxx="3.4.9", libraries={"libz.so.1": "lib/a.so"}, cuda="11.2")
    assert _lacking(manifest, needs, host) == {}
    for more in ({"glibcxx": "3.4.31"}, {"cxxabi": "1.3.1"}, {"libraries": {"libGL.so.1": "cv.so"}}, {"cuda": "12.0"}):
        assert list(_lacking(manifest, dataclasses.replace(needs, **more), host)) == ["warning"]


def test_needs_are_those_of_the_interpreters_machine() -> None:
    collector = NeedsCollector()
    assert collector.host_needs() == HostNeeds()
    for number in range(5):
        collector.add(f"lib/foreign{number}.so", Needs("aarch64", (2, 99), ("libforeign.so.1",)))
    collector.add("lib/a.so", Needs("x86_64", (2, 9), ()))
    collector.add("bin/python3.11", Needs("x86_64", (2, 4), ()))
    collector.add("lib/b.so", Needs("x86_64", (2, 17), ()))
    collector.add("lib/c.txt", None)
    assert collector.host_needs() == HostNeeds("x86_64", "2.17", "lib/b.so")


def test_libraries_of_glibc_of_drivers_and_of_its_own_are_no_needs() -> None:
    collector = NeedsCollector()
    names = ("libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "libcuda.so.1", "libown.so.2", "libssl.so.3")
    collector.add("bin/python3.11", Needs("x86_64", (2, 4), names))
    needs = collector.host_needs(["bin/python3.11", "lib/libown.so.2"])
    assert needs.libraries == {"libssl.so.3": "bin/python3.11"}


def test_libstdcxx_is_no_need_where_it_is_brought_along() -> None:
    collector = NeedsCollector()
    collector.add("bin/python3.11", Needs("x86_64", (2, 4), ("libstdc++.so.6",), (3, 4, 30), (1, 3, 13)))
    collector.add("lib/a.so", Needs("x86_64", (2, 4), ("libstdc++.so.6",), (3, 4, 9)))
    needs = collector.host_needs()
    assert (needs.glibcxx, needs.glibcxx_needed_by, needs.cxxabi) == ("3.4.30", "bin/python3.11", "1.3.13")
    assert "libstdc++.so.6" in needs.libraries
    brought = collector.host_needs(["lib/libstdc++.so.6"])
    assert (brought.glibcxx, brought.cxxabi, brought.libraries) == (None, None, {})


@pytest.mark.parametrize(
    ("packages", "virtual_packages", "cuda"),
    [
        ([], [], None),
        ([CUDA_12], [], "12.0"),
        ([Package("nvidia-cuda-runtime", "13.0.96", "pypi")], [], "13.0"),
        ([Package("torch", "2.0.1+cu118", "pypi")], [], "11.0"),
        ([Package("torch", "2.7.0+cpu", "pypi")], [], None),
        ([], [("__cuda", "pytorch 2.5")], "1.0"),
        ([], [("__cuda >=12.4,<13", "pytorch 2.5"), ("__glibc >=2.17", "pytorch 2.5")], "12.4"),
        ([CUDA_12], [("__cuda >=11.8", "pytorch 2.5")], "12.0"),
    ],
)
def test_the_cuda_that_packages_ask_for(
    packages: list[Package], virtual_packages: list[tuple[str, str]], cuda: str | None
) -> None:
    needs = NeedsCollector().host_needs((), packages, virtual_packages)
    assert needs.cuda == cuda
    assert (needs.cuda_needed_by is None) == (cuda is None)


def test_the_processor_level_that_a_package_asks_for() -> None:
    asked = [("__archspec 1 x86_64_v3", "fast 1.0"), ("__archspec * x86_64_v2", "slow 1.0")]
    needs = NeedsCollector().host_needs((), (), asked)
    assert (needs.cpu, needs.cpu_needed_by) == ("x86_64_v3", "fast 1.0")


def test_a_real_program_is_read_as_its_linker_reads_it(tmp_path: Path) -> None:
    """A program in C++ needs the machine's libstdc++, of just the version it was linked to."""
    prefix = make_prefix(tmp_path / "made")
    source = tmp_path / "hello.cpp"
    source.write_text("#include <iostream>\nint main() { std::cout << 1 << std::endl; }\n")
    subprocess.run(["g++", "-o", str(prefix / "bin/hello"), str(source)], check=True)
    needs = pack(prefix, tmp_path / "made.tar.zst").host_needs
    assert needs.machine == os.uname().machine
    assert needs.libraries["libstdc++.so.6"] == "bin/hello"
    assert needs.glibcxx is not None
    linked = subprocess.run(["objdump", "-T", str(prefix / "bin/hello")], capture_output=True, text=True, check=True)
    assert f"GLIBCXX_{needs.glibcxx})" in linked.stdout
    here = this_host(tmp_path)
    assert here.glibcxx is not None and "libstdc++.so.6" in here.libraries


def test_a_hosts_lack_is_told_before_the_first_byte(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"name": "gpu_math", "version": "1.0", "build": "0", "depends": ["__cuda >=12.4"], "files": []}
    prefix = make_prefix(tmp_path / "made")
    (prefix / "conda-meta/gpu_math-1.0-0.json").write_text(json.dumps(record))
    archive = pack(prefix, tmp_path / "made.tar.zst")
    assert (archive.host_needs.cuda, archive.host_needs.cuda_needed_by) == ("12.4", "gpu_math 1.0")

    class Listening(SilentReporter):
        def __init__(self) -> None:
            self.told: list[str] = []

        def notice(self, text: str) -> None:
            self.told.append(text)

    for version, expected in (("12.6", 0), ("12.0", 1), ("", 1)):
        monkeypatch.setenv("CONDA_OVERRIDE_CUDA", version)
        reporter = Listening()
        place = settings.load(tmp_path / f"place{version}")
        archives.unpack_environment(place, archive.path, name="chat", reporter=reporter)
        told = [text for text in reporter.told if "a GPU driver for CUDA 12.4 (gpu_math 1.0)" in text]
        assert len(told) == expected

    monkeypatch.setattr("trainenv.archives.hosts._cpu_level", lambda: None)
    (prefix / "conda-meta/gpu_math-1.0-0.json").write_text(
        json.dumps({**record, "depends": ["__archspec 1 x86_64_v4"]})
    )
    archive = pack(prefix, tmp_path / "fast.tar.zst")
    place = settings.load(tmp_path / "slow")
    with pytest.raises(ArchiveError, match="processor level x86_64_v4"):
        archives.unpack_environment(place, archive.path, name="chat", reporter=SilentReporter())
    assert not place.prefix_of("chat").exists()


def test_inspect_holds_an_archive_against_another_machine(
    workspace: Workspace, trainenv: RunCommand, tmp_path: Path
) -> None:
    prefix = make_prefix(tmp_path / "made")
    shutil.copy("/bin/true", prefix / "bin/true")
    archive = str(pack(prefix, tmp_path / "made.tar.zst").path)
    described = json.loads(trainenv(workspace, "doctor", "--json").stdout)
    assert Host.from_json(described["host"]).machine == os.uname().machine
    described["host"] |= {"name": "machine_b", "machine": "pdp11"}
    other = tmp_path / "machine_b.json"
    other.write_text(json.dumps(described))
    done = trainenv(workspace, "inspect", archive, "--against-host", str(other))
    assert done.returncode == 0 and "machine_b" in done.stdout and "pdp11" in done.stdout
    checks = json.loads(trainenv(workspace, "inspect", archive, "--against-host", str(other), "--json").stdout)[
        "host_checks"
    ]
    assert [check["name"] for check in checks if check["state"] == "error"] == ["processor"]
    here = json.loads(trainenv(workspace, "inspect", archive, "--json").stdout)["host_checks"]
    assert {check["state"] for check in here} == {"ok"}


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"host": {"machine": 3}}', '{"host": [1]}', "\0", '{"host": null}']
)
def test_a_file_that_describes_no_machine_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(content)
    with pytest.raises(UsageError, match="describes no machine"):
        read_host(tmp_path / "b.json")
    with pytest.raises(UsageError, match="can't be read"):
        read_host(tmp_path / "missing.json")

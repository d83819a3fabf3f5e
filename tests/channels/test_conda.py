from __future__ import annotations

from pathlib import Path

import pytest

from tests import support
from tests.conftest import MakeWorkspace
from trainenv.channels import conda
from trainenv.errors import ChannelError, InstallError, SolveError
from trainenv.progress import SilentReporter


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = support.make_channel(tmp_path / "channel")
    support.add_package(folder, "base", files={"share/base.txt": "base 1\n"})
    support.add_package(
        folder, "tool", "2.0", depends=["base >=1"], prefix_files={"bin/tool": "#!/bin/sh\necho @PREFIX@\n"}
    )
    return folder


def test_a_local_channel_is_solved_and_installed_with_the_target_prefix(
    tmp_path: Path, channel: Path, make_workspace: MakeWorkspace
) -> None:
    place = make_workspace()
    sources, failed = conda.reach(place.settings, [str(channel)])
    assert failed == {}
    records = conda.solve(sources, ["tool"], cache_dir=tmp_path / "cache")
    assert sorted(record.name.normalized for record in records) == ["base", "tool"]
    prefix = tmp_path / "staging"
    conda.install(
        records,
        prefix,
        target_prefix="/opt/envs/final",
        specs=["tool"],
        cache_dir=tmp_path / "cache",
        reporter=SilentReporter(),
    )
    assert (prefix / "bin/tool").read_text() == "#!/bin/sh\necho /opt/envs/final\n"
    assert (prefix / "share/base.txt").is_file()


def test_a_channel_over_http_works_as_well(tmp_path: Path, channel: Path, make_workspace: MakeWorkspace) -> None:
    with support.served(channel) as url:
        sources, failed = conda.reach(make_workspace().settings, [url])
        assert failed == {}
        records = conda.solve(sources, ["tool"], cache_dir=tmp_path / "cache")
        prefix = tmp_path / "staging"
        conda.install(
            records, prefix, target_prefix="/x", specs=[], cache_dir=tmp_path / "cache", reporter=SilentReporter()
        )
    assert (prefix / "bin/tool").is_file()


def test_a_mirror_stands_in_for_a_channel(channel: Path, make_workspace: MakeWorkspace) -> None:
    place = make_workspace(settings=f'[mirrors]\n"conda-forge" = ["{support.refusing()}", "{channel.as_uri()}"]')
    sources, failed = conda.reach(place.settings, ["conda-forge"])
    assert failed == {}
    assert [(source.name, source.folder) for source in sources] == [("conda-forge", channel)]


def test_channels_that_do_not_answer_are_told_with_the_reason(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    with (
        support.dropping_packets() as dropping,
        support.accepting_in_silence() as silent,
        support.served(tmp_path, status=503) as failing,
        support.served(tmp_path, status=404) as empty,
    ):
        refusing = support.refusing()
        missing = str(tmp_path / "none")
        names = [dropping, silent, failing, refusing, missing, empty]
        reached, failed = conda.reach(make_workspace().settings, names)
    assert [source.name for source in reached] == [empty]
    assert "no answer within" in failed[dropping]
    assert "no answer within" in failed[silent]
    assert "503" in failed[failing]
    assert "refused" in failed[refusing]
    assert "no such folder" in failed[missing]


def test_passwords_in_an_address_are_not_repeated(make_workspace: MakeWorkspace) -> None:
    address = support.refusing().replace("http://", "http://user:s3cret@")
    _, failed = conda.reach(make_workspace().settings, [address])
    assert "s3cret" not in failed[address]


def test_what_can_not_be_solved_is_one_line(tmp_path: Path, channel: Path, make_workspace: MakeWorkspace) -> None:
    sources, _ = conda.reach(make_workspace().settings, [str(channel)])
    for specs in (["nothing-of-this-name"], ["tool", "base <1"]):
        with pytest.raises(SolveError) as error:
            conda.solve(sources, specs, cache_dir=tmp_path / "cache")
        assert specs[-1].split()[0] in str(error.value)
        assert "\n" not in str(error.value)


def test_a_channel_without_an_index_is_named(tmp_path: Path, make_workspace: MakeWorkspace) -> None:
    with support.served(tmp_path) as url:
        sources, _ = conda.reach(make_workspace().settings, [url])
        with pytest.raises(ChannelError, match=r"127\.0\.0\.1"):
            conda.solve(sources, ["tool"], cache_dir=tmp_path / "cache")


def test_a_local_package_that_was_tampered_with_is_refused(
    tmp_path: Path, channel: Path, make_workspace: MakeWorkspace
) -> None:
    file = channel / "noarch" / "base-1.0-0.tar.bz2"
    sources, _ = conda.reach(make_workspace().settings, [str(channel)])
    records = conda.solve(sources, ["base"], cache_dir=tmp_path / "cache")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(InstallError, match="sha256"):
        conda.install(
            records,
            tmp_path / "p",
            target_prefix="/x",
            specs=[],
            cache_dir=tmp_path / "cache",
            reporter=SilentReporter(),
        )
    assert not (tmp_path / "p").exists()

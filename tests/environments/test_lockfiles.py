from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import support
from tests.conftest import MakeWorkspace, RunCommand, python_here
from trainenv import Workspace
from trainenv.channels.target import Target, this_platform
from trainenv.environments.locked import LockedConda, LockedEnvironment, LockedWheel
from trainenv.environments.lockfiles import explicit, pylock
from trainenv.environments.records import conda_records
from trainenv.environments.specification import gather, read_file
from trainenv.errors import InstallError, SolveError, SpecificationError, TrainenvError

PYTHON = f"python={python_here()}"


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    """A channel with ``two``, which needs ``one``, and an ``one`` that no lock here means."""
    folder = support.make_channel(tmp_path / "channel")
    support.add_package(folder, "one", prefix_files={"etc/one.conf": "root = @PREFIX@\n"})
    support.add_package(folder, "two", depends=["one"], files={"share/two": "2"})
    support.add_package(folder, "one", "9.0")
    return folder


def _package(channel: Path, name: str, version: str = "1.0") -> Path:
    return channel / "noarch" / f"{name}-{version}-0.tar.bz2"


def _explicit(channel: Path, digest: Callable[[Path], str]) -> str:
    files = [_package(channel, name) for name in ("one", "two")]
    return "\n".join(["# made by hand", "@EXPLICIT", *(f"{file.as_uri()}{digest(file)}" for file in files)])


DIGESTS: dict[str, Callable[[Path], str]] = {
    "sha256": lambda file: f"#sha256:{_sha256(file)}",
    "bare sha256": lambda file: f"#{_sha256(file)}",
    "md5": lambda file: f"#{hashlib.md5(file.read_bytes()).hexdigest()}",
    "none": lambda file: "",
}


@pytest.mark.parametrize("digest", DIGESTS)
def test_an_explicit_list_installs_its_files_and_knows_what_they_say_of_themselves(
    make_workspace: MakeWorkspace, channel: Path, tmp_path: Path, digest: str
) -> None:
    place = make_workspace(settings="channels = []")
    made = place.create("data", files=[_written(tmp_path, "list.txt", _explicit(channel, DIGESTS[digest]))])
    assert [(item.name, item.version, item.build) for item in made.packages] == [
        ("one", "1.0", "0"),
        ("two", "1.0", "0"),
    ]
    assert (made.prefix / "etc/one.conf").read_text() == f"root = {made.prefix}\n"
    contents = {record.name: record.content for record in conda_records(made.prefix)}
    assert contents["two"]["depends"] == ["one"]
    assert contents["two"]["noarch"] == "generic"
    assert contents["two"]["sha256"] == _sha256(_package(channel, "two"))
    assert place.verify(made).problems == []


def test_what_a_lock_made_can_be_added_to(make_workspace: MakeWorkspace, channel: Path, tmp_path: Path) -> None:
    support.add_package(channel, "three")
    place = make_workspace(settings=f'channels = ["{channel}"]')
    place.create("data", files=[_written(tmp_path, "list.txt", _explicit(channel, DIGESTS["sha256"]))])
    changed = place.install("data", "three")
    assert [(item.name, item.version) for item in changed.packages] == [
        ("one", "1.0"),
        ("three", "1.0"),
        ("two", "1.0"),
    ]


def test_an_explicit_list_works_offline_when_the_cache_has_it(
    make_workspace: MakeWorkspace, channel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINENV_CACHE_DIR", str(tmp_path / "cache"))
    place = make_workspace(settings="channels = []")
    with support.served(channel) as url:
        text = _explicit(channel, DIGESTS["sha256"]).replace(channel.as_uri(), url)
        file = _written(tmp_path, "list.txt", text)
        first = place.create("first", files=[file])
    second = place.create("second", files=[file])
    assert second.packages == first.packages


@pytest.mark.parametrize("kind", ["sha256", "md5"])
@pytest.mark.parametrize("over_http", [False, True])
def test_another_hash_than_the_locks_is_refused(
    make_workspace: MakeWorkspace,
    channel: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    over_http: bool,
) -> None:
    monkeypatch.setenv("TRAINENV_CACHE_DIR", str(tmp_path / "cache"))
    place = make_workspace(settings="channels = []")
    text = _explicit(channel, lambda file: "#" + ("0" * 64 if kind == "sha256" else "0" * 32))
    with support.served(channel) as url:
        file = _written(tmp_path, "list.txt", text.replace(channel.as_uri(), url) if over_http else text)
        with pytest.raises(InstallError) as error:
            place.create("data", files=[file])
    assert "hash" in str(error.value)
    assert "\n" not in str(error.value)
    assert place.environments() == []


def test_a_file_that_holds_another_package_is_refused(
    make_workspace: MakeWorkspace, channel: Path, tmp_path: Path
) -> None:
    _package(channel, "one").rename(_package(channel, "other"))
    text = f"@EXPLICIT\n{_package(channel, 'other').as_uri()}\n"
    place = make_workspace(settings="channels = []")
    with pytest.raises(InstallError, match=r"holds another package: one 1\.0 0"):
        place.create("data", files=[_written(tmp_path, "list.txt", text)])
    assert place.environments() == []


def test_a_conda_lock_installs_its_main_packages_for_this_machine(
    make_workspace: MakeWorkspace, channel: Path, tmp_path: Path
) -> None:
    place = make_workspace(settings="channels = []")
    file = _written(tmp_path, "any.name", _conda_lock_yaml(channel, this_platform()))
    made = place.create("data", files=[file])
    assert [item.name for item in made.packages] == ["one", "two"]


def _conda_lock_yaml(channel: Path, platform: str) -> str:
    lines = ["version: 1", "metadata:", f"  platforms: [{platform}]", "package:"]
    for name, category in (("one", "main"), ("two", "dev"), ("three", "docs")):
        file = _package(channel, name)
        lines += [f"- name: {name}", "  version: '1.0'", "  manager: conda", f"  platform: {platform}"]
        lines += [f"  url: {file.as_uri()}", f"  category: {category}", "  dependencies: {}"]
        lines += [f"  hash: {{sha256: {_sha256(file) if file.exists() else '0' * 64}}}"]
    return "\n".join(lines) + "\n"


PIXI_LOCK = """\
version: 6
environments:
  default:
    channels:
    - url: https://conda.example.org/channel/
    packages:
      PLATFORM:
      - conda: https://conda.example.org/channel/noarch/one-1.0-0.conda
      - pypi: https://pypi.example.org/demo-2.0-py3-none-any.whl
      - pypi: ./local
      - pypi: git+https://git.example.org/checked?subdirectory=a/b&tag=v1#COMMIT
packages:
- conda: https://conda.example.org/channel/noarch/one-1.0-0.conda
  sha256: 8744242d8c6544c99841cd75b673e8ffa3eede4c9a221d586ea6ed92ed61cb1a
  md5: a11d1c84e932ea3b14d8ebb33d1ecb46
  depends: []
  size: 467
- pypi: https://pypi.example.org/demo-2.0-py3-none-any.whl
  name: demo
  version: '2.0'
  sha256: 1744242d8c6544c99841cd75b673e8ffa3eede4c9a221d586ea6ed92ed61cb1a
- pypi: ./local
  name: local
  version: '0.1'
  sha256: 1744242d8c6544c99841cd75b673e8ffa3eede4c9a221d586ea6ed92ed61cb1a
  editable: true
- pypi: git+https://git.example.org/checked?subdirectory=a/b&tag=v1#COMMIT
  name: checked
  version: '3'
""".replace("COMMIT", "0123456789" * 4)


def test_a_pixi_lock_of_pixis_own_is_read(tmp_path: Path) -> None:
    file = _written(tmp_path, "pixi.lock", PIXI_LOCK.replace("PLATFORM", this_platform()))
    locked = read_file(file).locked
    assert locked is not None
    assert locked.channels == ("https://conda.example.org/channel/",)
    assert [(item.name, item.version, item.build, item.md5) for item in locked.conda] == [
        ("one", "1.0", "0", "a11d1c84e932ea3b14d8ebb33d1ecb46")
    ]
    checked, demo, local = sorted(locked.wheels, key=lambda wheel: wheel.name)
    assert checked.location == f"git+https://git.example.org/checked@{'0123456789' * 4}#subdirectory=a/b"
    assert demo.location == "https://pypi.example.org/demo-2.0-py3-none-any.whl"
    assert demo.sha256 == "1744242d8c6544c99841cd75b673e8ffa3eede4c9a221d586ea6ed92ed61cb1a"
    assert (local.location, local.editable, local.sha256) == ((tmp_path / "local").as_uri(), True, None)


_ONE = "https://conda.example.org/channel/noarch/one-1.0-0.conda"
_DEMO = "https://pypi.example.org/demo-2.0-py3-none-any.whl"
_SHA = "8744242d8c6544c99841cd75b673e8ffa3eede4c9a221d586ea6ed92ed61cb1a"

PIXI_LOCK_5 = f"""\
version: 5
environments:
  default:
    channels: [{{url: https://conda.example.org/channel/}}]
    packages:
      PLATFORM: [{{conda: {_ONE}}}, {{pypi: {_DEMO}}}, {{pypi: ./local}}]
packages:
- {{kind: conda, name: one, version: '1.0', build: '0', subdir: noarch, url: {_ONE}, sha256: {_SHA}}}
- {{kind: pypi, name: demo, version: '2.0', url: {_DEMO}, sha256: {_SHA}}}
- {{kind: pypi, name: local, version: '0.1', path: ./local, sha256: {_SHA}, editable: true}}
"""

PIXI_LOCK_3 = f"""\
version: 3
metadata:
  content_hash: {{PLATFORM: {_SHA}}}
  channels: [{{url: https://conda.example.org/channel/, used_env_vars: []}}]
  platforms: [PLATFORM]
  sources: []
package:
- {{platform: PLATFORM, name: one, version: '1.0', category: main, manager: conda, dependencies: [],
   url: {_ONE}, hash: {{sha256: {_SHA}}}, build: '0', build_number: 0, subdir: noarch}}
- {{platform: PLATFORM, name: demo, version: '2.0', category: main, manager: pip, requires_dist: [],
   url: {_DEMO}, hash: {{sha256: {_SHA}}}}}
"""


@pytest.mark.parametrize("text", [PIXI_LOCK_3, PIXI_LOCK_5.replace("5", "4", 1), PIXI_LOCK_5])
def test_older_pixi_locks_are_read(tmp_path: Path, text: str) -> None:
    locked = read_file(_written(tmp_path, "pixi.lock", text.replace("PLATFORM", this_platform()))).locked
    assert locked is not None
    assert [(item.url, item.build, item.sha256) for item in locked.conda] == [(_ONE, "0", _SHA)]
    wheels = {wheel.name: wheel for wheel in locked.wheels}
    assert (wheels["demo"].location, wheels["demo"].sha256) == (_DEMO, _SHA)
    assert all(wheel.editable == (wheel.name == "local") for wheel in wheels.values())


@pytest.mark.parametrize(
    "text",
    [
        PIXI_LOCK.replace("PLATFORM", "osx-arm64"),
        "# platform: osx-arm64\n@EXPLICIT\nfile:///x/noarch/one-1.0-0.conda\n",
        "@EXPLICIT\nfile:///x/osx-arm64/one-1.0-0.conda\n",
        "version: 1\nmetadata: {}\npackage:\n- {name: one, platform: osx-arm64, manager: conda, url: x}\n",
    ],
)
def test_a_lock_for_another_platform_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecificationError, match="osx-arm64") as error:
        read_file(_written(tmp_path, "lock", text))
    assert this_platform() in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("@EXPLICIT\n", "lists no packages"),
        ("@EXPLICIT\nhttps://example.org/x.zip\n", "line 2"),
        ("@EXPLICIT\nfile:///x/noarch/one-1.0-0.conda#12\n", "neither md5 nor sha256"),
        ("version: 6\nenvironments:\n  default: 3\npackages: []\n", "not a valid pixi.lock"),
        ("version: 6\nenvironments: {}\npackages: []\n", "no environment 'default'"),
        ("version: 8\nmetadata: {}\npackage: []\n", "version 8"),
        ("version: 3\nmetadata: {}\npackage: []\n", "not a valid pixi.lock"),
        ('lock-version = "1.0"\n', "created-by"),
        ('lock-version = "9.0"\ncreated-by = "x"\npackages = []\n', "9.0"),
        ('lock-version = "1.0\n', "TOML"),
    ],
)
def test_what_is_no_lock_is_named_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SpecificationError) as error:
        read_file(_written(tmp_path, "lock", text))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_pylock_installs_its_files_into_a_python_that_it_fits(
    workspace: Workspace, wheels: Path, tmp_path: Path
) -> None:
    file = _written(tmp_path, "pylock.toml", _pylock(wheels, "greeter-1.0"))
    made = workspace.create("chat", PYTHON, files=[file])
    assert [(item.name, item.version) for item in made.packages if item.build == "pypi"] == [("greeter", "1.0")]
    assert workspace.verify(made).problems == []


def test_a_pylock_is_added_to_what_is_there(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    support.make_wheel(wheels, "extra")
    workspace.create("chat", PYTHON, files=[_written(tmp_path, "r.txt", "extra\n")])
    changed = workspace.install("chat", files=[_written(tmp_path, "pylock.toml", _pylock(wheels, "greeter-1.0"))])
    assert [item.name for item in changed.packages if item.build == "pypi"] == ["extra", "greeter"]


def _pylock(wheels: Path, stem: str, digest: str = "") -> str:
    name, version = stem.split("-")
    file = wheels / f"{stem}-py3-none-any.whl"
    wheel = f'{{ path = "{file}", hashes = {{ sha256 = "{digest or _sha256(file)}" }} }}'
    mac = '{ url = "https://x.example.org/greeter-1.0-cp311-cp311-macosx_11_0_arm64.whl", hashes = { sha256 = "00" } }'
    return (
        'lock-version = "1.0"\ncreated-by = "hand"\nrequires-python = ">=3.8"\n\n'
        f'[[packages]]\nname = "{name}"\nversion = "{version}"\nwheels = [{mac}, {wheel}]\n\n'
        '[[packages]]\nname = "never"\nversion = "1"\nmarker = "sys_platform == \'win32\'"\n'
        'sdist = { url = "https://x.example.org/never-1.tar.gz", hashes = { sha256 = "00" } }\n'
    )


def test_a_wheel_with_another_hash_than_the_locks_is_refused(
    workspace: Workspace, wheels: Path, tmp_path: Path
) -> None:
    file = _written(tmp_path, "pylock.toml", _pylock(wheels, "greeter-1.0", "0" * 64))
    with pytest.raises(InstallError, match="Hash mismatch") as error:
        workspace.create("chat", PYTHON, files=[file])
    assert "\n" not in str(error.value)
    assert workspace.environments() == []


def test_a_pylock_that_does_not_fit_the_python_is_refused(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    text = _pylock(wheels, "greeter-1.0").replace('">=3.8"', '"<3.5"')
    with pytest.raises(SpecificationError, match=r"does not fit Python .*<3\.5"):
        workspace.create("chat", PYTHON, files=[_written(tmp_path, "pylock.toml", text)])


def test_a_lock_says_it_all(workspace: Workspace, wheels: Path, channel: Path, tmp_path: Path) -> None:
    conda = _written(tmp_path, "list.txt", _explicit(channel, DIGESTS["sha256"]))
    pypi = _written(tmp_path, "pylock.toml", _pylock(wheels, "greeter-1.0"))
    requirements = _written(tmp_path, "requirements.txt", "greeter\n")
    for specs, files in ((["one"], [conda]), ([PYTHON], [pypi, requirements])):
        with pytest.raises(SpecificationError, match="nothing can be added"):
            workspace.create("chat", *specs, files=files)
    with pytest.raises(SpecificationError, match="same half"):
        gather(files=[conda, conda])
    workspace.create("chat", PYTHON)
    with pytest.raises(SpecificationError, match="whole environment"):
        workspace.install("chat", files=[conda])


PYPROJECT = """\
[project]
name = "demo"
version = "1"
requires-python = ">=3.8"
dependencies = ["greeter<2"]

[project.optional-dependencies]
more = ["needs_greeter"]

[dependency-groups]
base = ["extra"]
test = [{include-group = "base"}]
"""


@pytest.mark.parametrize(
    ("brackets", "expected"),
    [
        ("", ["greeter"]),
        ("[more]", ["greeter", "needs-greeter"]),
        ("[test]", ["extra", "greeter"]),
        ("[more,test]", ["extra", "greeter", "needs-greeter"]),
    ],
)
def test_a_pyproject_gives_dependencies_extras_and_groups(
    workspace: Workspace, wheels: Path, tmp_path: Path, brackets: str, expected: list[str]
) -> None:
    support.make_wheel(wheels, "extra")
    _written(tmp_path, "pyproject.toml", PYPROJECT)
    made = workspace.create("chat", PYTHON, files=[tmp_path / f"pyproject.toml{brackets}"])
    assert [item.name for item in made.packages if item.build == "pypi"] == expected
    assert workspace.verify(made).imported == [name.replace("-", "_") for name in expected]


def test_the_python_of_a_pyproject_is_heeded(workspace: Workspace, wheels: Path, tmp_path: Path) -> None:
    text = PYPROJECT.replace(">=3.8", f"=={python_here()}.*")
    made = workspace.create("chat", files=[_written(tmp_path, "pyproject.toml", text)])
    assert str(made.python).startswith(python_here())
    other = _written(tmp_path, "pyproject.toml", PYPROJECT.replace(">=3.8", ">=3.99"))
    with pytest.raises(SolveError, match=r"pyproject.toml is for Python >=3.99"):
        workspace.create("other", f"python={python_here()}", files=[other])
    with pytest.raises(SolveError, match=r"pyproject.toml is for Python >=3.99"):
        workspace.install("chat", files=[other])


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (PYPROJECT, "pyproject.toml[none]", "no extra or dependency group 'none': It has: base, more, test"),
        (PYPROJECT.replace('"base"}', '"test"}'), "pyproject.toml[test]", "includes itself"),
        ("[build-system]\nrequires = []\n", "pyproject.toml", "names no dependencies"),
        ('[project]\nname = "x"\ndynamic = ["dependencies"]\n', "pyproject.toml", "dynamic"),
        ("[project]\ndependencies = 3\n", "pyproject.toml", "no list"),
    ],
)
def test_a_wrong_pyproject_is_named_in_one_line(tmp_path: Path, text: str, name: str, words: str) -> None:
    _written(tmp_path, "pyproject.toml", text)
    with pytest.raises(SpecificationError) as error:
        read_file(tmp_path / name)
    assert words.replace(": It", ". It") in str(error.value)
    assert "\n" not in str(error.value)


_NAMES = st.from_regex(r"[a-z][a-z0-9_.]{0,8}", fullmatch=True)
_HEX = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(st.lists(st.tuples(_NAMES, _NAMES, _NAMES, _HEX), min_size=1, max_size=5, unique_by=lambda item: item[0]))
def test_an_explicit_list_read_back_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, items: list[tuple[str, str, str, str]]
) -> None:
    packages = tuple(
        LockedConda.from_url(f"https://example.org/c/noarch/{name}-{version}-{build}.conda", digest)
        for name, version, build, digest in items
    )
    locked = LockedEnvironment("given", conda=packages)
    assert explicit.read(Path("list.txt"), explicit.dump(locked)).conda == packages


_WHEELS = st.builds(
    lambda name, version, kind, digest: {
        "wheel": LockedWheel(name, version, f"https://h/{name}-{version}-py3-none-any.whl", digest),
        "sdist": LockedWheel(name, version, f"https://h/{name}-{version}.tar.gz", digest),
        "direct": LockedWheel(name, version, f"https://h/{name}-{version}-py3-none-any.whl", digest, direct=True),
        "checkout": LockedWheel(name, version, f"git+https://h/{name}@{digest[:40]}#subdirectory=a/b", direct=True),
        "project": LockedWheel(name, version, f"file:///projects/{name}", direct=True, editable=True),
    }[kind],
    st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True),
    st.from_regex(r"[1-9][0-9]{0,2}\.[1-9][0-9]?", fullmatch=True),
    st.sampled_from(["wheel", "sdist", "direct", "checkout", "project"]),
    _HEX,
)


@given(st.lists(_WHEELS, max_size=5, unique_by=lambda wheel: wheel.name))
def test_a_pylock_read_back_is_the_same(wheels: list[LockedWheel]) -> None:
    expected = sorted(wheels, key=lambda wheel: wheel.name)
    text = pylock.dump(wheels, "3.11.7")
    read = pylock.read(Path("/some/where/pylock.toml"), text).wheels_for("3.11.7")
    assert list(read) == expected
    assert pylock.dump(read, "3.11.7") == text


@given(st.text(max_size=300))
def test_any_text_after_a_locks_head_is_a_lock_or_one_clear_line(
    tmp_path_factory: pytest.TempPathFactory, rest: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    for head in ("@EXPLICIT\n", 'lock-version = "1.0"\n', "version: 6\nenvironments:\npackages:\n"):
        (folder / "lock").write_text(head + rest, encoding="utf-8", errors="replace")
        try:
            read_file(folder / "lock")
        except TrainenvError as error:
            assert "\n" not in str(error)


def test_a_lock_is_read_for_the_platform_that_is_asked_for(
    make_workspace: MakeWorkspace, channel: Path, tmp_path: Path, trainenv: RunCommand
) -> None:
    support.add_package(channel, "one", "7.0", subdir="linux-aarch64")
    place = make_workspace(settings=f'channels = ["{channel}"]')
    targets = [Target("linux-64"), Target("linux-aarch64")]
    file = _written(tmp_path, "pixi.lock", place.lock("one<9", targets=targets).dump())
    asked = ["create", "-n", "data", "-f", str(file), "--dry-run", "--platform"]
    assert " 7.0 " in trainenv(place, *asked, "linux-aarch64").stdout
    refused = trainenv(place, *asked, "osx-arm64")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "osx-arm64" in refused.stderr

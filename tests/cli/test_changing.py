"""The commands that change what an environment holds, as people and programs use them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import support
from tests.cli.conftest import terminal
from tests.conftest import MakeWorkspace, RunCommand, program, python_here
from trainenv import Workspace

PYTHON = f"python={python_here()}"


@pytest.fixture
def place(make_workspace: MakeWorkspace, tmp_path: Path) -> Workspace:
    channel = support.make_channel(tmp_path / "channel")
    support.add_package(channel, "base", "1.0")
    support.add_package(channel, "base", "2.0")
    support.add_package(channel, "top", depends=["base"])
    return make_workspace(settings=f'channels = ["{channel}", "host"]')


def _names(place: Workspace) -> list[str]:
    return [package.name for package in place.environment("data").packages]


def _files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def test_a_dry_run_shows_a_table_and_writes_nothing(place: Workspace, trainenv: RunCommand) -> None:
    done = trainenv(place, "create", "-n", "data", "top", "base=1", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^base +added +1\.0 ", done.stdout, re.MULTILINE)
    assert "data: 2 added" in done.stdout
    assert not place.settings.envs_dir.exists()
    place.create("data", "top", "base=1")
    place.install("data", "base")
    before = _files(place.settings.envs_dir)
    done = trainenv(place, "update", "-n", "data", "base", "--dry-run")
    assert re.search(r"^base +changed +1\.0 -> 2\.0 ", done.stdout, re.MULTILINE), done.stdout
    done = trainenv(place, "remove", "-n", "data", "base", "--dry-run", "--json")
    shown = json.loads(done.stdout)
    assert [(change["name"], change["change"]) for change in shown["changes"]] == [
        ("base", "removed"),
        ("top", "removed"),
    ]
    assert (shown["name"], shown["download"]) == ("data", 0)
    done = trainenv(place, "install", "-n", "data", "top", "--dry-run")
    assert "nothing would change" in done.stdout
    done = trainenv(place, "install", "-n", "data", "nowhere", "--dry-run")
    assert done.returncode == 1
    assert _files(place.settings.envs_dir) == before


def test_a_dry_run_tells_how_much_is_to_be_fetched(
    place: Workspace, trainenv: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINENV_CACHE_DIR", str(tmp_path / "cache"))
    channel = tmp_path / "channel"
    sizes = {file.name.split("-")[0]: file.stat().st_size for file in channel.glob("noarch/*-[12].0-0.tar.bz2")}
    with support.served(channel) as url:
        done = trainenv(place, "create", "-n", "data", "base=1", "-c", url, "--dry-run", "--json")
        assert json.loads(done.stdout)["download"] in range(1, 1000), done.stderr
        place.create("data", "base=1", channels=[url])
        done = trainenv(place, "install", "-n", "data", "base=1", "top", "--dry-run")
        assert f"data: 1 added, {sizes['top']} B to download" in done.stdout, done.stderr
        place.install("data", "base")
        done = trainenv(place, "update", "-n", "data", "base", "--dry-run", "--json")
        (change,) = json.loads(done.stdout)["changes"]
        assert (change["name"], change["change"], change["download"] > 0) == ("base", "changed", True)
        done = trainenv(place, "remove", "-n", "data", "base", "--dry-run")
        assert "data: 1 removed\n" in done.stdout


def test_on_a_terminal_it_shows_the_table_and_asks(place: Workspace) -> None:
    command = program(place, "create", "-n", "data", "top")
    with terminal(command, os.environ) as user:
        user.expect(r"top +added")
        user.expect(r"Proceed\?")
        user.say("n")
        user.expect("nothing was changed")
        assert user.process.wait(30) == 1
    assert place.environments() == []
    with terminal(command, os.environ) as user:
        user.expect(r"Proceed\?")
        user.say("")
        user.expect("Created data")
        assert user.process.wait(30) == 0
    with terminal([*program(place, "remove", "-n", "data", "top"), "-y"], os.environ) as user:
        assert "Proceed" not in user.expect("Changed data")


def test_pip_speaks_pips_words(place: Workspace, wheels: Path, trainenv: RunCommand, tmp_path: Path) -> None:
    place.create("data", PYTHON)
    file = tmp_path / "requirements.txt"
    file.write_text("needs_greeter\n")
    done = trainenv(place, "pip", "install", "-n", "data", "greeter<2", "-r", str(file))
    assert done.returncode == 0, done.stderr
    assert {"greeter", "needs-greeter"} <= set(_names(place))
    other = tmp_path / "other"
    support.make_wheel(other, "elsewhere")
    (tmp_path / "constraints.txt").write_text("elsewhere<2\n")
    options = ["-f", str(other), "-c", str(tmp_path / "constraints.txt")]
    done = trainenv(place, "pip", "install", "-n", "data", "elsewhere", *options)
    assert done.returncode == 0, done.stderr
    listed = json.loads(trainenv(place, "pip", "list", "-n", "data", "--json").stdout)
    assert {"greeter", "elsewhere"} <= {package["name"] for package in listed}
    assert trainenv(place, "pip", "uninstall", "-n", "data", "greeter", "-y").returncode == 0
    assert {"greeter", "needs-greeter"}.isdisjoint(_names(place))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pip", "show", "numpy"], "trainenv run -n NAME python -m pip show"),
        (["pip", "freeze"], "trainenv env export -n NAME --format requirements.txt"),
        (["pip", "install", "-n", "data"], "no package was named"),
        (["update", "-n", "data"], "name packages to update, or --all"),
        (["remove", "-n", "data"], "name packages to remove, or --all"),
        (["env", "rollback", "none"], "no environment 'none'"),
        (["pip", "install", "-n", "none", "x"], "no environment 'none'"),
        (["remove", "-n", "none", "x"], "no environment 'none'"),
        (["update", "-n", "none", "x"], "no environment 'none'"),
    ],
)
def test_mistakes_get_one_line(place: Workspace, trainenv: RunCommand, arguments: list[str], words: str) -> None:
    done = trainenv(place, *arguments)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_list_tells_who_replaced_whom(place: Workspace, wheels: Path, trainenv: RunCommand) -> None:
    support.make_wheel(wheels, "setuptools", "999.0")
    place.create("data", PYTHON)
    done = trainenv(place, "list", "-n", "data")
    assert "Remarks" not in done.stdout
    done = trainenv(place, "pip", "install", "-n", "data", "setuptools>=999", "--freeze-conda")
    assert done.returncode == 1
    assert "would replace conda's setuptools" in done.stderr
    assert trainenv(place, "pip", "install", "-n", "data", "setuptools>=999").returncode == 0
    done = trainenv(place, "list", "-n", "data")
    assert re.search(r"^setuptools +999\.0 +pypi +pypi +replaces setuptools [\d.]+ \(host\)", done.stdout, re.MULTILINE)
    listed = json.loads(trainenv(place, "list", "-n", "data", "--json").stdout)
    assert re.fullmatch(
        r"setuptools [\d.]+ \(host\)", {item["name"]: item for item in listed}["setuptools"]["replaces"]
    )


@pytest.mark.parametrize(
    "change",
    [
        ["install", "-n", "data", "large"],
        ["update", "-n", "data", "growing"],
        ["pip", "install", "-n", "data", "heavy"],
        ["env", "repair", "data"],
    ],
    ids=["install", "update", "pip", "repair"],
)
def test_a_full_disk_leaves_every_byte(
    place: Workspace, shared_cache: Path, wheels: Path, tmp_path: Path, change: list[str]
) -> None:
    """In a mount namespace of its own, where a small disk is mounted over ``envs_dir`` and filled up."""
    channel = tmp_path / "channel"
    much = {f"share/{number}": os.urandom(100_000).hex() for number in range(60)}
    support.add_package(channel, "large", prefix_files=much)
    support.add_package(channel, "growing", "1.0")
    support.make_wheel(wheels, "heavy", files={f"heavy/{key.removeprefix('share/')}.txt": much[key] for key in much})
    small = tmp_path / "small-disk"
    small.mkdir()
    own = tmp_path / "second"
    own.mkdir()
    (own / "trainenv.toml").write_text(
        f'channels = ["{channel}", "host"]\ncache_dir = "{shared_cache}"\nenvs_dir = "{small}"\n'
    )
    second = Workspace(own)
    script = tmp_path / "script.sh"
    python = [PYTHON] if change[0] == "pip" else []
    create = " ".join(program(second, "create", "-n", "data", *python, "growing=1"))
    widen = " ".join(program(second, "install", "-n", "data", "growing"))
    damage = ":"
    if change[:2] == ["env", "repair"]:
        damage = f"{' '.join(program(second, 'install', '-n', 'data', 'large'))} >&2; rm -r {small}/data/share"
    add = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
    add += "import os; from pathlib import Path; from tests import support\n"
    add += f"support.add_package(Path({str(channel)!r}), 'growing', '2.0',"
    add += " prefix_files={f'share/g{n}': os.urandom(100_000).hex() for n in range(60)})\n"
    (tmp_path / "add.py").write_text(add)
    script.write_text(
        f"""set -e
mount -t tmpfs -o size=150m tmpfs {small}
{create} >&2
{widen} >&2
{damage}
{program(None)[0]} {tmp_path / "add.py"}
sum() {{ cd {small}/data; find . -type f -exec sha256sum {{}} + | sort; find . ! -type f | sort; cd /; }}
sum > {tmp_path}/before
dd if=/dev/zero of={small}/filler bs=64k 2>/dev/null || true
truncate -s -4M {small}/filler
set +e
"$@"
code=$?
sum > {tmp_path}/after
ls -A {small}/.trainenv/staging
exit $code
"""
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", str(script), *program(second, *change)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    error = [line for line in done.stderr.splitlines() if line.startswith("trainenv: error: ")]
    assert done.returncode == 1, done.stderr
    assert len(error) == 1
    assert "space" in error[0]
    assert (tmp_path / "before").read_text() == (tmp_path / "after").read_text() != ""
    assert not any(name.startswith("data-") for name in done.stdout.split()), done.stdout


def test_on_a_disk_without_a_byte_left_one_can_go_back_and_remove(
    tmp_path: Path, shared_cache: Path, own_home: Path
) -> None:
    channel = support.make_channel(tmp_path / "channel")
    support.add_package(channel, "one")
    support.add_package(channel, "two")
    small = tmp_path / "small-disk"
    small.mkdir()
    root = tmp_path / "second"
    root.mkdir()
    settings = f'channels = ["{channel}"]\ncache_dir = "{shared_cache}"\nenvs_dir = "{small}"\nhost_fallback = false\n'
    (root / "trainenv.toml").write_text(settings)
    run = " ".join(program(Workspace(root)))
    script = f"""set -e
mount -t tmpfs -o size=2m tmpfs {small}
({run} create -n data one; {run} install -n data two) 1>&2
echo kept > {small}/kept.yml
dd if=/dev/zero of={small}/filler bs=1 2>/dev/null || true
set +e
{run} remove -n data one; {run} env export data -o {small}/kept.yml
echo $? `cat {small}/kept.yml`
{run} env rollback data && {run} list -n data
{run} env remove data -y && ls -A {small} {small}/.trainenv/staging {small}/.trainenv/generations
"""
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "no space left for environment 'data': the disk of" in done.stderr
    assert "`trainenv clean` helps" in done.stderr
    said = done.stdout
    assert said.startswith("2 kept\n"), "the file that was there is still there"
    assert "data is in state 1" in said
    assert "two" not in said.split("data is in state 1")[1].split("Removed")[0]
    assert said.split("Removed data\n")[1].split() == [
        *(f"{small}:", ".trainenv", "filler", "kept.yml"),
        *(f"{small}/.trainenv/generations:", f"{small}/.trainenv/staging:", ".guard"),
    ]
    assert str(small) not in (own_home / ".conda/environments.txt").read_text()

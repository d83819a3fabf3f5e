"""``bin/activate`` and ``bin/deactivate`` of an archive, in the shells themselves, without trainenv."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.archives.conftest import extract, make_prefix, pack, unpack

SHELLS = {
    "bash": ["bash", "--norc", "-euc"],
    "dash": ["dash", "-euc"],
    "busybox": ["busybox", "sh", "-euc"],
    "mksh": ["mksh", "-euc"],
    "ksh": ["ksh", "-euc"],
    "zsh": ["zsh", "-feuc"],
}
SHOW = 'echo "$CONDA_PREFIX|$CONDA_DEFAULT_ENV|${OWN-none}|${SET_HERE-none}|$PATH|${PS1-none}"; '


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of an environment with variables and activation scripts."""
    base = tmp_path_factory.mktemp("machine_a")
    prefix = make_prefix(base / "chat")
    shutil.rmtree(prefix / "share")
    (prefix / "conda-meta/state").write_text(json.dumps({"env_vars": {"OWN": "it's $HOME", "bad name": "x"}}))
    scripts = {
        "activate.d/a b.sh": 'export SET_HERE="$CONDA_PREFIX" ORDER=b\n',
        "activate.d/c.sh": "ORDER=${ORDER}c\n",
        "deactivate.d/a.sh": "unset SET_HERE\n",
        "activate.d/a.fish": "set -gx SET_HERE $CONDA_PREFIX\n",
        "deactivate.d/a.fish": "set -e SET_HERE\n",
    }
    for path, text in scripts.items():
        (prefix / "etc/conda" / path).parent.mkdir(parents=True, exist_ok=True)
        (prefix / "etc/conda" / path).write_text(text)
    return pack(prefix, base / "chat.tar.zst").path


def _run(shell: list[str], script: str, folder: Path, **variables: str) -> list[str]:
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder), **variables}
    done = subprocess.run([*shell, script], env=environ, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.splitlines()


@pytest.mark.parametrize("shell", SHELLS)
def test_it_activates_and_is_undone(packed: Path, tmp_path: Path, shell: str) -> None:
    """From any folder, with blanks in the path, before and after ``conda-unpack``."""
    root = extract(packed, tmp_path / "machine b" / "my chat")
    before = "PS1='$ '; " + "export OWN=former CONDA_PREFIX=/conda; "
    script = f'{before}. "$1/bin/activate"; {SHOW}echo "$ORDER"; tool x; . deactivate; {SHOW} . "$1/bin/deactivate"'
    script = script.replace('"$1/', f'"{root}/')
    bin_folder = f"{root}/bin"
    expected = [
        f"{root}|my chat|it's $HOME|{root}|{bin_folder}:/usr/bin:/bin|(my chat) $ ",
        "bc",
        "tool x",
        "/conda||former|none|/usr/bin:/bin|$ ",
    ]
    script = script.replace("$CONDA_DEFAULT_ENV", "${CONDA_DEFAULT_ENV-}")
    assert _run(SHELLS[shell], script, tmp_path) == expected
    subprocess.run([root / "bin/conda-unpack"], check=True, stdout=subprocess.DEVNULL)
    assert _run(SHELLS[shell], script, root / "etc") == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_a_relative_path_will_do_and_nothing_stays_behind(packed: Path, tmp_path: Path, shell: str) -> None:
    root = extract(packed, tmp_path / "b")
    names = "set | grep -i '^_trainenv' | cut -d= -f1 | sort; "
    lines = _run(SHELLS[shell], f". ./bin/activate; {names} . ./bin/deactivate; {names} echo end", root)
    assert lines == ["_TRAINENV_ACTIVE", "end"]


@pytest.mark.parametrize("shell", SHELLS)
def test_another_one_takes_its_place(packed: Path, tmp_path: Path, shell: str) -> None:
    """And a child shell can leave what its parent has activated."""
    first, second = extract(packed, tmp_path / "first"), extract(packed, tmp_path / "second")
    script = f"unset PS1; . {first}/bin/activate; . {second}/bin/activate; . {second}/bin/activate; {SHOW}"
    script += f"{' '.join(SHELLS[shell])} '. {second}/bin/deactivate; echo \"${{CONDA_PREFIX-none}}|$PATH\"'"
    assert _run(SHELLS[shell], script, tmp_path) == [
        f"{second}|second|it's $HOME|{second}|{second}/bin:/usr/bin:/bin|none",
        "none|/usr/bin:/bin",
    ]


def test_fish(packed: Path, tmp_path: Path) -> None:
    first, second = extract(packed, tmp_path / "b one"), extract(packed, tmp_path / "second")
    show = 'echo "$CONDA_PREFIX|$CONDA_DEFAULT_ENV|$OWN|$SET_HERE|$PATH"; '
    script = (
        f"source '{first}/bin/activate.fish'; {show} source '{second}/bin/activate.fish'; {show} deactivate; {show}"
    )
    script += "functions --all | string match '*trainenv*'; set --names | string match '_TRAINENV*'; echo end"
    assert _run(["fish", "--no-config", "-c"], script, tmp_path, OWN="former") == [
        f"{first}|b one|it's $HOME|{first}|{first}/bin:/usr/bin:/bin",
        f"{second}|second|it's $HOME|{second}|{second}/bin:/usr/bin:/bin",
        "||former||/usr/bin:/bin",
        "end",
    ]


def test_they_are_no_part_of_the_environment(packed: Path, tmp_path: Path) -> None:
    unpack(packed, tmp_path / "b")
    assert sorted(os.listdir(tmp_path / "b/bin")) == ["python", "tool", "tool-by-absolute-link"]
    extracted = extract(packed, tmp_path / "c")
    assert pack(extracted, tmp_path / "again.tar.zst").path.read_bytes() == packed.read_bytes()


def test_those_of_a_package_stay(tmp_path: Path) -> None:
    prefix = make_prefix(tmp_path / "chat")
    (prefix / "bin/activate").write_text("# conda's own\n")
    archive = pack(prefix, tmp_path / "a.tar.zst")
    assert [file.path for file in archive.manifest.files if file.path.startswith("bin/activate")] == ["bin/activate"]
    unpack(archive.path, tmp_path / "b")
    assert (tmp_path / "b/bin/activate").read_text() == "# conda's own\n"

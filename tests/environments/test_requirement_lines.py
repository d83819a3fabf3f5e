"""Requirements files are read as pip reads them, and each line knows where it stands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import support
from tests.conftest import python_here
from trainenv import Workspace
from trainenv.channels.pypi import pip_settings
from trainenv.environments.requirement_lines import RequirementLine, build_options, for_uv, uv_options, uv_variables
from trainenv.environments.specification import of_requirements, read_file, required_hashes
from trainenv.errors import SpecificationError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the command runs; the requirements lie in ``team`` below it."""
    (tmp_path / "team").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _lines(text: str, name: str = "requirements.txt") -> tuple[RequirementLine, ...]:
    file = Path("team", name)
    file.write_text(text)
    return read_file(file).requirements


def test_continued_lines_are_one_and_comments_go() -> None:
    found = _lines("# first\n\nnumpy>=1 \\\n    ,<2  # not the new one\ngreeter#no\\\n-x\n")
    assert [(line.text, line.place and line.place.number) for line in found] == [
        ("numpy>=1     ,<2", 3),
        ("greeter#no-x", 5),
    ]


def test_includes_begin_at_their_file_and_other_paths_where_the_command_runs(here: Path) -> None:
    Path("team", "base.txt").write_text("./local\n-c limits.txt\n")
    Path("team", "limits.txt").write_text("numpy<2\n")
    assert [
        line.text for line in _lines("-rbase.txt\n-e ./mine[x]\nother @ other.zip\nwheel-1.whl ; os_name == 'posix'\n")
    ] == [
        f"{here}/local",
        f"--constraint {here}/team/limits.txt",
        f"--editable {here}/mine[x]",
        f"other @ file://{here}/other.zip",
        f"{here}/wheel-1.whl ; os_name == 'posix'",
    ]


def test_addresses_stay_as_they_are() -> None:
    lines = ["git+ssh://git@host/x.git@v1", "https://host/a%20b.whl", "git+git@host:x.git", "file:///x[y]"]
    assert [line.text for line in _lines("\n".join(lines))] == lines


def test_a_checkout_to_edit_becomes_one_that_is_installed_and_says_so() -> None:
    (line,) = _lines("-e git+https://me:secret@host/x@v1#egg=name[extra]&subdirectory=src\n")
    assert line.text == "name[extra] @ git+https://me:secret@host/x@v1#subdirectory=src"
    assert "not as a checkout to edit" in line.remark
    assert "secret" not in line.remark + line.shown


def test_a_variable_is_put_in_as_pip_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_TOKEN", "secret")
    (line, other) = _lines("--extra-index-url https://u:${TEAM_TOKEN}@host/simple\n${UNSET_HERE}\n")
    assert line.value == "https://u:secret@host/simple"
    assert other.text == "${UNSET_HERE}"


def test_every_option_of_pip_reaches_uv(here: Path) -> None:
    (here / "team" / "wheels").mkdir()
    found = _lines(
        "--index-url https://host/simple --extra-index-url=https://me:pw@other/simple\n"
        "-f wheels\n--no-index\n--pre\n--trusted-host host\n--prefer-binary\n--use-feature x\n--require-hashes\n"
        "--no-binary a,b\n--only-binary :all:\n"
        "numpy --config-settings=k=v --config-settings 'a=b c'\n"
    )
    assert [line.text for line in for_uv(found)] == [f"--find-links {here}/team/wheels", "numpy"]
    options = [
        *("--no-index", "--prerelease", "allow", "--allow-insecure-host", "host"),
        *("--no-binary", "a", "--no-binary", "b", "--only-binary", ":all:"),
        *("--config-settings-package", "numpy:k=v", "--config-settings-package", "numpy:a=b c"),
    ]
    assert uv_options(found) == options
    assert build_options(found) == [*options, "--find-links", f"{here}/team/wheels"]
    indexes = {"UV_DEFAULT_INDEX": "https://host/simple", "UV_INDEX": "https://me:pw@other/simple"}
    assert uv_variables(found) == indexes


def test_an_address_with_a_secret_stands_on_no_command_line() -> None:
    found = _lines("-i https://host/t/secret/simple\n-f https://me:secret@host/wheels\n")
    assert "secret" not in "".join([*uv_options(found), *build_options(found)])
    assert uv_variables(found) == {"UV_DEFAULT_INDEX": "https://host/t/secret/simple"}
    assert [line.text for line in for_uv(found)] == ["--find-links https://me:secret@host/wheels"]


def test_a_folder_of_wheels_that_is_not_there_is_passed_over_with_a_word(here: Path) -> None:
    (line,) = _lines("-f gone\n")
    assert uv_options([line]) == []
    assert line.remark == f"{here}/team/requirements.txt line 1: {here}/gone is not there, and passed over"


def test_hashes_belong_to_their_requirement() -> None:
    allowed, required = required_hashes(of_requirements(["A_b==1 --hash=sha256:AA --hash sha256:bb", "c"]))
    assert allowed == {"a-b": {"aa", "bb"}}
    assert required
    assert required_hashes(of_requirements(["--require-hashes"])) == ({}, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("numpy\n--no-such\n", "line 2: --no-such is not an option of requirements files"),
        ("-i\n", "line 1: --index-url needs a value"),
        ("--hash sha256:00\n", "line 1: --hash belongs behind a requirement"),
        ("numpy --global-option=x\n", "line 1: --global-option is for setup.py alone"),
        ("numpy --pre\n", "line 1: --pre can't stand behind a requirement"),
        ("\n-e 'x\n", "line 2: no closing quotation"),
        ("\n\n-r none.txt\n", "team/none.txt can't be read: No such file"),
        ("-r environment.yml\n", "line 1: "),
    ],
)
def test_what_can_not_be_read_is_named_with_its_line(text: str, said: str) -> None:
    Path("team", "environment.yml").write_text("dependencies: [python]\n")
    with pytest.raises(SpecificationError) as error:
        _lines(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_include_each_other_are_read_once() -> None:
    Path("team", "b.txt").write_text("-r a.txt\ntwo\n")
    assert [line.text for line in _lines("-r b.txt\none\n", "a.txt")] == ["two", "one"]


def test_indexes_of_a_file_come_to_those_of_pips_settings(
    workspace: Workspace, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def index(name: str, *packages: str) -> str:
        for package in packages:
            wheel = support.make_wheel(here / name / "files", package)
            page = here / name / "simple" / package / "index.html"
            page.parent.mkdir(parents=True)
            page.write_text(f'<a href="../../files/{wheel.name}">{wheel.name}</a>')
        return (here / name / "simple").as_uri()

    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", (here / "nowhere").as_uri())
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index("settings", "ours"))
    pip_settings.cache_clear()
    file = here / "r.txt"
    file.write_text(
        f"-i {index('main', 'upstream')}\n--extra-index-url {index('more', 'team')}\nours\nupstream\nteam\n"
    )
    made = workspace.create("chat", f"python={python_here()}", files=[file])
    assert {"ours", "upstream", "team"} <= {package.name for package in made.packages}

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainenv.environments.specification import gather, of_requirements, read_file, requested_names
from trainenv.errors import SpecificationError, TrainenvError

ENVIRONMENT_YML = """
name: my_env
channels: [conda-forge, nodefaults]
dependencies:
  - python=3.11
  - pip
  - pip:
      - numpy<2
      - -r more.txt
variables:
  TOKENIZERS_PARALLELISM: "false"
"""


def _written(folder: Path, name: str, text: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_an_environment_yml_is_read(tmp_path: Path) -> None:
    _written(tmp_path, "more.txt", "pandas\n")
    found = read_file(_written(tmp_path, "environment.yml", ENVIRONMENT_YML))
    assert found.name == "my_env"
    assert found.channels == ("conda-forge",)
    assert found.conda == ("python=3.11", "pip")
    assert [line.text for line in found.requirements] == ["numpy<2", "pandas"]
    assert found.folder == tmp_path
    assert found.variables == {"TOKENIZERS_PARALLELISM": "false"}


def test_an_environment_yml_is_recognised_under_any_name(tmp_path: Path) -> None:
    _written(tmp_path, "more.txt", "pandas\n")
    found = gather(files=[_written(tmp_path, "requirements_chat.txt", ENVIRONMENT_YML)])
    assert found.conda == ("python=3.11", "pip")


@pytest.mark.parametrize(
    "header", ["# This file may be used to create an environment using:\n# platform: linux-64\n", ""]
)
def test_what_conda_list_exports_is_recognised_under_any_name(tmp_path: Path, header: str) -> None:
    text = f"{header}python=3.11.7=h955ad1f_0\r\n_libgcc_mutex=0.1=main\r\nnumpy=1.26\r\nsix=1.16.0=pypi_0\r\n"
    found = read_file(_written(tmp_path, "requirements.txt", text))
    assert found.conda == ("python=3.11.7=h955ad1f_0", "_libgcc_mutex=0.1=main", "numpy=1.26")
    assert [(line.text, str(line.place)) for line in found.requirements] == [
        ("six==1.16.0", f"{tmp_path}/requirements.txt line {5 + header.count(chr(10)) - 1}")
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("numpy\n<<<<<<< HEAD\nsix==1.0\n=======\nsix==2.0\n>>>>>>> other\n", "line 2 is git's mark of a conflict"),
        ("dependencies: [python, {pip: [--nosuch x]}]\n", "/file: --nosuch is not an option of requirements files"),
        ("version: 7\nplatforms:\n- name: linux-64\nenvironments:\n  default:\n", "pixi.lock"),
    ],
)
def test_a_file_that_was_spoilt_is_said_to_be(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SpecificationError, match=words):
        read_file(_written(tmp_path, "file", text))


def test_sections_and_files_of_several_specifications_go_together(tmp_path: Path) -> None:
    files = [_written(tmp_path, "one.yml", ENVIRONMENT_YML.replace("- -r more.txt", "- ./local"))]
    files.append(_written(tmp_path, "two.yml", "dependencies:\n  - pip:\n    - other\n"))
    files.append(_written(tmp_path, "three.txt", "third\n"))
    assert [line.text for line in gather(files=files).requirements] == [
        "numpy<2",
        f"{tmp_path}/local",
        "other",
        "third",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\x7fELF\0\0\0\1", "binary data"),
        (b"caf\xe9\n", "not text in UTF-8"),
        (b"@EXPLICIT\n", "lists no packages"),
        (b'lock-version = "1.0"\n', "pylock.toml"),
        (b"[build-system]\nrequires = []\n", "names no dependencies"),
        (b"[[table]]\n", "TOML file"),
        (b"dependencies: [python\n", "not valid YAML"),
        (b"dependencies: python\n", "must be a list"),
        (b"dependencies:\n  - {conda: [x]}\n", "not understood"),
        (b"dependencies:\n  - 'py@thon'\n", "not a package specification"),
    ],
)
def test_what_is_no_specification_is_named_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    file = _written(tmp_path, "given.txt", content)
    with pytest.raises(SpecificationError) as error:
        read_file(file)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecificationError, match="No such file"):
        read_file(tmp_path / "none.txt")
    with pytest.raises(SpecificationError, match="is a folder"):
        read_file(tmp_path)


def test_the_command_lines_channels_come_first(tmp_path: Path) -> None:
    file = _written(tmp_path, "environment.yml", "channels: [b, a]\ndependencies: [python]\n")
    assert gather(files=[file], channels=["a"]).channels == ("a", "b")


def test_requested_names_follow_includes_and_skip_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _written(tmp_path, "more.txt", "Scikit_Learn[extra]>=1 # why\n./local/path\n--pre\n-r more.txt\n")
    specification = of_requirements(("numpy<2", "-r more.txt", "git+file:///x"))
    assert requested_names(specification) == ["numpy", "Scikit_Learn"]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_specification_or_one_clear_line(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    file = tmp_path_factory.mktemp("any") / "file"
    file.write_bytes(raw)
    try:
        read_file(file)
    except TrainenvError as error:
        assert "\n" not in str(error)

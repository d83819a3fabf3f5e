"""method.yaml: what it may say, and that each mistake names its file, line and column."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainenv.errors import MethodError, UsageError
from trainenv.training.method import BrokenMethod, Method, list_methods, load_method
from trainenv.training.method_checks import problems
from trainenv.training.method_file import read_method
from trainenv.training.resources import Resources


def write(methods_dir: Path, yaml: str | bytes, name: str = "probe") -> Path:
    folder = methods_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.py").touch()
    content = yaml if isinstance(yaml, bytes) else textwrap.dedent(yaml).lstrip("\n").encode()
    (folder / "method.yaml").write_bytes(content)
    return folder


def load(methods_dir: Path, yaml: str) -> Method:
    write(methods_dir, yaml)
    return load_method(methods_dir, "probe")


def test_the_short_form(tmp_path: Path) -> None:
    method = load(tmp_path, "conda_env: small_env\nfile: train.py\n")
    assert method.name == "probe"
    assert method.environment_of("train") == "small_env"
    assert method.argv("train", Path("/envs/small_env"), {"n": 3, "on": True, "text": "a b"}) == [
        "/envs/small_env/bin/python",
        str(tmp_path / "probe" / "train.py"),
        "--n=3",
        "--on=true",
        "--text=a b",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1h 30m", 5400), ("1d", 86400), ("~", None)],
)
def test_how_long_a_task_may_run(tmp_path: Path, text: str, seconds: float | None) -> None:
    assert load(tmp_path, f"file: train.py\nresources: {{time: {text}}}\n").resources.time == seconds


@pytest.mark.parametrize("text", ["0", "-1", "soon", "2 weeks", "true", "[1]", ".inf", ".nan", "1h30", '""'])
def test_no_time_that_a_task_could_run(tmp_path: Path, text: str) -> None:
    with pytest.raises(MethodError, match=r"method.yaml:2:\d+: resources.time: it must be a time above 0"):
        load(tmp_path, f"file: train.py\nresources: {{time: {text}}}\n")


def test_what_a_task_takes(tmp_path: Path) -> None:
    method = load(
        tmp_path,
        """
        file: train.py
        resources:
          gpus: 2
          gpu_memory: 20 GB
          cpus: 4
          memory: 1.5GiB
        """,
    )
    assert method.resources == Resources(gpus=2, gpu_memory=20_000_000_000, cpus=4, memory=1_610_612_736)
    assert method.to_json()["resources"] == {
        "gpus": 2,
        "gpu_memory": 20_000_000_000,
        "cpus": 4,
        "memory": 1_610_612_736,
        "time": None,
    }
    assert load(tmp_path, "file: train.py\n").resources == Resources()
    assert load(tmp_path, "file: train.py\nresources: {gpus: 0}\n").resources == Resources(gpus=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpus: -1", "gpus: it must be a whole number, 0 or more"),
        ("gpus: 0.5", "gpus: it must be a whole number, 0 or more"),
        ("gpus: two", "gpus: it must be a whole number, 0 or more"),
        ("cpus: 0", "cpus: it must be a whole number, 1 or more"),
        ("cpus: true", "cpus: it must be a whole number, 1 or more"),
        ("memory: 0", "memory: it must be a size above 0. Write it as 8GB or 512MiB"),
        ("memory: much", "memory: it must be a size above 0"),
        ("gpu_memory: 8GB", "gpu_memory: it is what each of the GPUs must have free. Say how many: gpus: 1"),
        ("gpu: 1", "gpu: this word is unknown"),
    ],
)
def test_nothing_that_a_task_could_take(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MethodError, match=rf"method.yaml:2:\d+: resources.{re.escape(message)}"):
        load(tmp_path, f"file: train.py\nresources: {{{text}}}\n")


def test_the_long_form(tmp_path: Path) -> None:
    method = load(
        tmp_path,
        """
        name: probe
        description: A probe
        type: chat
        conda_env: base_env
        stages:
          train: {file: train.py}
          save: {command: [python, -m, "save it"]}
          infer: {command: "python -m 'infer it'", conda_env: other_env}
        parameters:
          rate: {type: number, default: 0.1, minimum: 0, maximum: 1, description: Step size}
          kind: {enum: [a, b], default: a}
          depth: {default: 4}
          data: {required: true}
          rank: {enum: [8, 16], required: true}
        environment: {THREADS: 2, MODE: fast}
        """,
    )
    assert (method.description, method.type) == ("A probe", "chat")
    assert method.stage("save").command == ("python", "-m", "save it")
    assert method.stage("infer").command == ("python", "-m", "infer it")
    assert [method.environment_of(name) for name in method.stages] == ["base_env", "base_env", "other_env"]
    assert [each.type for each in method.parameters.values()] == ["number", "string", "integer", "string", "integer"]
    assert method.parameters["data"].required
    assert method.environment == {"THREADS": "2", "MODE": "fast"}


@pytest.mark.parametrize(
    ("place", "yaml", "says"),
    [
        ("2:7", "conda_env: e\nfile: [train.py\n", "not valid YAML"),
        ("2:1", "conda_env: e\nconda_env: f\n", "duplicate key"),
        ("1:1", "just text", "mapping"),
        ("1:1", "", "mapping"),
        ("2:1", "conda_env: e\nfiel: train.py\n", "fiel: this word is unknown. Did you mean 'file'"),
        ("1:12", "conda_env: ../b\n", "can't name an environment"),
        ("1:12", "conda_env: [a]\n", "conda_env: it must be text"),
        ("1:7", "name: other\n", "the folder is called 'probe'"),
        ("1:7", "file: ../train.py\n", "must be a file in the method's folder"),
        ("1:7", "file: train.exe\n", ".py or .sh"),
        ("2:3", "stages:\n  trian: {file: train.py}\n", "Did you mean 'train'"),
        ("2:10", "stages:\n  train: {}\n", "either a file or a command"),
        ("2:10", "stages:\n  train: {file: train.py, command: x}\n", "either a file or a command"),
        ("2:10", "stages:\n  train: train.py\n", "stages.train: it must be a mapping"),
        ("2:20", "stages:\n  train: {command: 'a \"b'}\n", "No closing quotation"),
        ("2:20", "stages:\n  train: {command: [1]}\n", "text or a list of texts"),
        ("1:7", "file: train.py\nstages: {train: {file: train.py}}\n", "given in stages already"),
        ("2:3", "parameters:\n  3x: {default: 1}\n", "a parameter's name"),
        ("2:3", "parameters:\n  1: {default: 1}\n", "parameters.1: it must be text"),
        (
            "3:5",
            "parameters:\n  n:\n    minimun: 1\n",
            "parameters.n.minimun: this word is unknown. Did you mean 'minimum'",
        ),
        ("3:11", "parameters:\n  n:\n    type: int\n", "'int' is none of its values. Did you mean"),
        ("3:14", "parameters:\n  n:\n    minimum: low\n", "it must be a number"),
        ("3:15", "parameters:\n  n:\n    required: maybe\n", "true or false"),
        ("3:11", "parameters:\n  n:\n    enum: a\n", "it must be a list"),
        ("3:14", "parameters:\n  n:\n    default: 2024-01-01\n", "Put it in quotes"),
        ("2:6", "environment:\n  A: [1]\n", "Put it in quotes"),
        ("2:6", "environment:\n  A: true\n", "Put it in quotes"),
        ("1:18", "pass_parameters: flags\n", "'flags' is none of its values"),
        ("2:18", "parameters: {path: {default: a}}\npass_parameters: environment\n", "can't be variable PATH"),
        (
            "2:18",
            "parameters: {a-b: {}, a_b: {}}\npass_parameters: environment\n",
            "two parameters would be variable A_B",
        ),
        ("2:15", "parameters:\n  n: {switch: true}\n", "it is for a parameter of type boolean, not string"),
        ("2:30", "parameters:\n  n: {type: integer, format: path}\n", "type string, not integer"),
        ("1:10", "outputs: [/model.pt]\n", "'/model.pt' is no path below"),
        ("1:10", "outputs: 5\n", "it must be a path or a list of them"),
        ("1:10", "metrics: 'loss (.*'\n", "is no regular expression"),
        ("1:10", "metrics: ['loss (.*)']\n", "names no metric"),
        ("1:15", "environment: {A-B: 1}\n", "a variable's name"),
        ("1:13", "parameters: [1]\n", "parameters: it must be a mapping"),
    ],
)
def test_a_mistake_is_one_line_with_file_line_and_column(tmp_path: Path, place: str, yaml: str, says: str) -> None:
    with pytest.raises(MethodError) as caught:
        load(tmp_path, yaml)
    told = str(caught.value)
    assert told.startswith(f"{tmp_path}/probe/method.yaml:{place}: ")
    assert says in told and "\n" not in told


def test_how_parameters_are_passed(tmp_path: Path) -> None:
    values = {"rate": 0.1, "deep": True, "fast": False, "words": ["a b"], "text": "x y"}

    def argv(style: str) -> list[str]:
        types = (
            "{rate: {type: number}, deep: {type: boolean}, fast: {type: boolean, switch: true}, words: {type: array}}"
        )
        found = load(tmp_path, f"file: train.py\npass_parameters: {style}\nparameters: {types}\n")
        return found.argv("train", Path("/e"), values)[2:]

    assert argv("--key=value") == ["--rate=0.1", "--deep=true", '--words=["a b"]', "--text=x y"]
    assert argv("--key value") == ["--rate", "0.1", "--deep", "true", "--words", '["a b"]', "--text", "x y"]
    assert argv("json") == ["{parameters}"]
    assert argv("environment") == []
    assert argv("deepextension")[:4] == ["--train_id={task_id}", "--seq=1", "--rate=0.1", "--deep=True"]
    method = load(tmp_path, "file: train.py\npass_parameters: environment\nenvironment: {RATE: 3, A: x}\n")
    assert method.variables({"rate": 0.1, "data-dir": "d"}) == {"RATE": "0.1", "A": "x", "DATA_DIR": "d"}


def test_words_that_are_shared_by_an_anchor_count_as_written(tmp_path: Path) -> None:
    method = load(
        tmp_path,
        """
        parameters:
          a: &base {default: &on true, required: *on}
          b: {<<: *base, default: false}
        """,
    )
    a, b = method.parameters.values()
    assert (a.type, a.default, a.required) == ("boolean", True, True)
    assert (b.type, b.default, b.required) == ("boolean", False, True)


@pytest.mark.parametrize("content", [b"name: \xff\xfe\n", b"a: " + b"[" * 20_000])
def test_a_file_that_is_not_yaml_is_one_line(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, content)
    with pytest.raises(MethodError, match="not valid YAML"):
        load_method(tmp_path, "probe")


@given(st.text(alphabet=st.sampled_from("abn:{}[]-&*!<'\"\n #|>%@0.,?~\t"), max_size=60))
def test_any_text_is_a_method_or_a_method_error(tmp_path_factory: pytest.TempPathFactory, yaml: str) -> None:
    folder = write(tmp_path_factory.getbasetemp() / "any", yaml.encode())
    try:
        read_method(folder)
    except MethodError as error:
        assert "\n" not in str(error)


def test_an_unknown_method_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="There are no methods there yet"):
        load_method(tmp_path / "none", "probe")
    write(tmp_path, "file: train.py")
    with pytest.raises(MethodError, match=r"Did you mean 'probe'\?"):
        load_method(tmp_path, "prode")
    with pytest.raises(MethodError, match="Known are: probe"):
        load_method(tmp_path, "zzz")
    with pytest.raises(UsageError, match="can't name a method"):
        load_method(tmp_path, "../probe")


def test_a_broken_method_hides_no_other(tmp_path: Path) -> None:
    write(tmp_path, "file: train.py", "good")
    write(tmp_path, "file: [", "broken")
    (tmp_path / "no_method").mkdir()
    broken, good = list_methods(tmp_path)
    assert isinstance(broken, BrokenMethod) and "method.yaml:1" in broken.error
    assert isinstance(good, Method) and good.error is None
    (tmp_path / good.folder.name).rename(tmp_path / "two words")
    misnamed = list_methods(tmp_path)[-1]
    assert isinstance(misnamed, BrokenMethod) and "'two words' can't name a method" in misnamed.error
    assert list_methods(tmp_path / "none") == []


def test_validate_says_all_that_would_keep_it_from_running(tmp_path: Path) -> None:
    yaml = """
        stages:
          train: {file: missing.py, conda_env: there}
          save: {command: save, conda_env: absent}
          infer: {command: [no-such-program, -x], conda_env: there}
          deploy: {command: infer}
        parameters:
          epochs: {type: integer, default: 0, minimum: 1}
          rate: {type: number, default: fast}
          both: {type: number, minimum: 2, maximum: 1}
          kind: {type: integer, enum: [1, b]}
        """
    method = load(tmp_path, yaml)
    file = tmp_path / "probe" / "method.yaml"
    assert problems(tmp_path, "probe", {"there": tmp_path}) == [
        f"{file}:2:17: stage train: file 'missing.py' is not in {method.folder}",
        f"{file}:3:36: stage save: environment 'absent' does not exist. Make it: trainenv create -n absent python",
        f"{file}:4:20: stage infer: command 'no-such-program' is neither in environment 'there' nor on the PATH",
        f"{file}:5:21: stage deploy: no conda_env is named",
        f"{file}:7:36: parameter epochs: its default is refused: the minimum is 1",
        f"{file}:8:33: parameter rate: its default is refused: it must be a number",
        f"{file}:9:33: parameter both: minimum 2 is over maximum 1",
        f"{file}:10:31: parameter kind: its value b is refused: it must be an integer",
    ]
    with pytest.raises(MethodError, match=r"missing\.py"):
        method.argv("train", Path("/envs/there"), {})


def test_all_mistakes_of_a_file_are_found_at_once(tmp_path: Path) -> None:
    folder = write(
        tmp_path, "fiel: train.py\nparameters:\n  n: {type: int, minimum: low}\n  m: 3\nenvironment: {A: [1]}\n"
    )
    places = [line.removeprefix(f"{folder}/method.yaml:").split(": ")[0] for line in problems(tmp_path, "probe", {})]
    assert places == ["1:1", "3:13", "3:27", "4:6", "5:18"]
    with pytest.raises(MethodError, match="Did you mean 'file'"):
        read_method(folder)
    write(tmp_path, "type: 5\nname: other\n")
    with pytest.raises(MethodError, match=r"type: it must be text\. .*validate probe. shows this and 1 more"):
        read_method(folder)


def test_a_method_without_code_is_invalid_and_a_good_one_is_not(tmp_path: Path) -> None:
    write(tmp_path, "conda_env: e")
    assert [problem.split(": ")[1] for problem in problems(tmp_path, "probe", {"e": tmp_path})] == ["it has no stage"]
    write(tmp_path, "conda_env: e\nfile: train.py")
    assert problems(tmp_path, "probe", {"e": tmp_path}) == []


def test_a_stage_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match=r"no stage 'infer'\. Known are: train"):
        load(tmp_path, "file: train.py").environment_of("infer")


def test_a_shell_script_runs_with_bash(tmp_path: Path) -> None:
    method = load(tmp_path, "file: train.sh")
    script = method.folder / "train.sh"
    script.touch()
    os.chmod(script, 0o600)
    assert method.argv("train", Path("/p"), {}) == ["bash", str(script)]

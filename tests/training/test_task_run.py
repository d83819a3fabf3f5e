"""What a task's code gets, and what is recorded of how it ended."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trainenv import locks
from trainenv.errors import EnvironmentBusyError, MethodError, ParameterError, TaskError
from trainenv.training import metrics
from trainenv.training.run import follow, start, wait
from trainenv.training.task import list_tasks, load_task

if TYPE_CHECKING:
    from tests.training.conftest import Bench


def test_code_that_ends_well_is_done(bench: Bench) -> None:
    task = wait(bench.start("print('hello')"))
    assert (task.status, task.exit_code, task.signal, task.error) == ("done", 0, None, None)
    assert task.started is not None and task.finished is not None
    assert task.created <= task.started <= task.finished
    assert task.log_file.read_text() == "hello\n"


def test_a_task_is_waited_for_and_cancelled_where_it_is_at_hand(bench: Bench) -> None:
    ended = bench.start("print('step=1 loss=0.5')").wait()
    assert ended.metrics == {"step": 1, "loss": 0.5}
    assert ended.wait() == ended
    running = bench.start_and_hear("import time; print('up', flush=True); time.sleep(600)")
    with pytest.raises(TaskError, match="still running"):
        running.wait(timeout=0.1)
    assert running.cancel().status == "cancelled"


def test_exit_code_is_the_codes_own(bench: Bench) -> None:
    task = wait(bench.start("raise SystemExit(41)"))
    assert (task.status, task.exit_code) == ("failed", 41)
    assert task.outcome == "failed (exit code 41)"


def test_death_by_a_signal_names_it(bench: Bench) -> None:
    task = wait(bench.start("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    assert (task.status, task.exit_code, task.signal) == ("failed", None, "SIGSEGV")


def test_log_holds_the_bytes_as_written(bench: Bench) -> None:
    task = wait(
        bench.start(
            """
            import os, sys
            os.write(1, b"\\xff\\x00 out\\r")
            os.write(2, b"err without an end")
            """
        )
    )
    assert task.log_file.read_bytes() == b"\xff\x00 out\rerr without an end"


def test_output_appears_while_the_code_runs(bench: Bench) -> None:
    task = bench.start(
        """
        import os, pathlib, time
        print("begun", end="", flush=True)
        while not pathlib.Path(os.environ["TRAINENV_OUTPUTS"], "go").exists():
            time.sleep(0.01)
        print(", ended")
        """
    )
    events = follow(task)
    assert next(events).text == "begun"
    (task.outputs / "go").touch()
    assert "".join(event.text for event in events) == ", ended\n"
    assert load_task(task.folder.parent, task.id).status == "done"


def test_follow_gives_metrics_with_their_lines(bench: Bench) -> None:
    task = bench.start(
        """
        print("loading")
        for epoch in (1, 2):
            print(f"epoch={epoch} loss={1 / epoch}")
        print('{"epoch": 3, "loss": 0.25}', end="")
        """
    )
    found = [event.metrics for event in follow(task) if event.metrics]
    assert found == [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}, {"epoch": 3, "loss": 0.25}]
    assert [json.loads(line) for line in task.metrics_file.read_text().splitlines()] == found
    assert wait(task).metrics == {"epoch": 3, "loss": 0.25}


def test_what_the_code_gets(bench: Bench) -> None:
    method = bench.method(
        """
        import json, os, sys
        seen = {
            "arguments": sys.argv[1:],
            "cwd": os.getcwd(),
            "parameters": json.load(open(os.environ["TRAINENV_PARAMETERS"])),
            "stdin": sys.stdin.read(),
            "own_session": os.getsid(0) == os.getpid() == os.getpgid(0),
            "variables": dict(os.environ),
        }
        open(os.path.join(os.environ["TRAINENV_OUTPUTS"], "seen.json"), "w").write(json.dumps(seen))
        """,
        yaml="""
        conda_env: small_env
        file: train.py
        parameters:
          epochs: {type: integer, default: 3}
          rate: {type: number}
          note: {type: string}
        environment: {DEPTH: 4, PYTHONUNBUFFERED: "0"}
        """,
    )
    task = wait(start(bench.settings, method, {"rate": "1e-3", "note": "two words"}, prefix=bench.prefix))
    assert task.status == "done", task.log_file.read_text()
    seen = json.loads((task.outputs / "seen.json").read_text())
    assert seen["arguments"] == ["--epochs=3", "--rate=0.001", "--note=two words"]
    assert seen["parameters"] == task.parameters == {"epochs": 3, "rate": 0.001, "note": "two words"}
    assert seen["cwd"] == str(method.folder)
    assert seen["stdin"] == "" and seen["own_session"]
    variables = seen["variables"]
    assert variables["CONDA_PREFIX"] == str(bench.prefix) and variables["CONDA_DEFAULT_ENV"] == bench.environment
    assert variables["PATH"].split(":")[0] == str(bench.prefix / "bin")
    assert variables["TRAINENV_TASK_DIR"] == str(task.folder) and variables["TRAINENV_TASK_ID"] == task.id
    assert variables["DEPTH"] == "4" and variables["PYTHONUNBUFFERED"] == "0"


def test_activation_scripts_are_sourced(bench: Bench) -> None:
    scripts = bench.prefix / "etc" / "conda" / "activate.d"
    scripts.mkdir(parents=True)
    (scripts / "probe.sh").write_text('export PROBE="from a script"\n')
    task = wait(bench.start("import os; print(os.environ['PROBE']); raise SystemExit(5)"))
    assert task.log_file.read_text() == "from a script\n"
    assert task.exit_code == 5


def test_a_stage_may_be_a_command(bench: Bench) -> None:
    method = bench.method(
        "",
        yaml="""
        conda_env: other_env
        stages:
          infer:
            command: python -c "import sys; print(sys.argv[1:], sys.executable)"
            conda_env: small_env
        parameters: {n: {default: 2}}
        """,
    )
    task = wait(start(bench.settings, method, {}, stage="infer", prefix=bench.prefix))
    assert (task.stage, task.conda_env) == ("infer", "small_env")
    assert task.log_file.read_text().split() == ["['--n=2']", str(bench.prefix / "bin" / "python")]


def test_code_that_cannot_be_started_fails_and_says_why(bench: Bench) -> None:
    method = bench.method("", yaml="conda_env: small_env\nstages: {train: {command: no-such-program}}\n")
    task = start(bench.settings, method, {}, prefix=bench.prefix)
    assert (task.status, task.exit_code) == ("failed", None)
    assert task.error is not None and "no-such-program" in task.error


def test_record_says_what_ran(bench: Bench) -> None:
    task = wait(bench.start("pass"))
    assert task.host == os.uname().nodename
    assert len(task.code_sha256) == len(task.method_sha256) == 64
    assert json.loads((task.folder / "task.json").read_text()) == task.to_json()


@pytest.mark.parametrize(
    ("parameters", "stage", "error"),
    [({"epoch": "3"}, "train", ParameterError), ({}, "deploy", MethodError)],
)
def test_a_refused_start_leaves_nothing(
    bench: Bench, parameters: dict[str, object], stage: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        start(bench.settings, bench.method("pass"), parameters, stage=stage, prefix=bench.prefix)
    assert not bench.settings.tasks_dir.exists()


def test_no_task_starts_while_its_environment_changes(bench: Bench) -> None:
    with locks.exclusive(bench.settings, bench.environment), pytest.raises(EnvironmentBusyError):
        bench.start("pass")
    assert list(bench.settings.tasks_dir.glob("[!.]*")) == []


def test_no_environment_changes_under_a_task(bench: Bench) -> None:
    task = bench.start("import time; print('up'); time.sleep(60)")
    with (
        pytest.raises(EnvironmentBusyError, match=f"task {task.id}"),
        locks.exclusive(bench.settings, bench.environment),
    ):
        pass
    os.kill(bench.supervisor(task), 15)
    wait(task)

    def free() -> bool:
        try:
            with locks.exclusive(bench.settings, bench.environment):
                return True
        except EnvironmentBusyError:
            return False

    bench.until(free)


def test_a_supervisor_that_cannot_start_is_one_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(TaskError, match="supervisor can't be started"):
        bench.start("pass")
    assert list_tasks(bench.settings.tasks_dir) == []


def test_wait_gives_up(bench: Bench) -> None:
    with pytest.raises(TaskError, match="still running"):
        wait(bench.start("import time; time.sleep(60)"), timeout=0.05)


def test_a_pattern_that_takes_for_ever_keeps_no_task_from_its_end(bench: Bench) -> None:
    yaml = "conda_env: small_env\nfile: train.py\nmetrics: '(?P<loss>(a|aa)+)$'\n"
    code = "print('a' * 200 + 'b')\nimport time; time.sleep(1)\nprint('epoch=2 loss=1')"
    method = bench.method(code, yaml=yaml)
    task = wait(start(bench.settings, method, {}, prefix=bench.prefix))
    assert (task.status, task.metrics) == ("done", {"epoch": 2, "loss": 1})
    assert "takes too long" in task.log_file.read_text()


def test_event_files_among_the_outputs_are_measured_while_the_code_runs(bench: Bench) -> None:
    recorded = Path(__file__).parent / "recorded" / "torch"
    task = bench.start(
        f"""
        import os, pathlib, shutil, time
        outputs = pathlib.Path(os.environ["TRAINENV_OUTPUTS"])
        print("epoch=1 accuracy=0.5", flush=True)
        shutil.copytree({str(recorded)!r}, outputs / "runs" / "now")
        while not (outputs / "go").exists():
            time.sleep(0.01)
        print("epoch=2 accuracy=0.75", flush=True)
        """
    )
    bench.until(lambda: "train/loss" in load_task(task.folder.parent, task.id).metrics)
    (task.outputs / "go").touch()
    ended = wait(task)
    assert ended.metrics["train/loss"] == 0.5 and ended.metrics["accuracy"] == 0.75
    assert [record.get("step") for record in metrics.read(str(task.metrics_file))] == [None, 0, 1, 4, 5, 5, None]


def test_follow_gives_log_events(bench: Bench) -> None:
    details = {"step": 3, "loss": 0.5}
    line = "[log_data]: " + json.dumps({"level": "info", "seq": 1, "msg": 200009, "details": details})
    (event,) = [event for event in follow(bench.start(f"print({line!r} + chr(10), end='')")) if event.data]
    assert event.data is not None and event.data["level"] == "info"
    assert event.metrics == details and event.text.startswith("[log_data]")

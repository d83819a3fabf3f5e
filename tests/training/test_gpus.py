"""GPUs as their driver tells them: through the real nvidia-ml-py, over a driver's library made for the test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import trainenv

SOURCE = str(Path(trainenv.__file__ or "").parent.parent)
GIGABYTES_80 = 80 << 30


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ``libnvidia-ml.so.1`` (see ``nvml.c``)."""
    folder = tmp_path_factory.mktemp("driver")
    source = Path(__file__).with_name("nvml.c")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source], check=True)
    return folder


def asked(driver: Path, code: str, **variables: str) -> str:
    """What ``code`` prints where the driver's library is this one."""
    every = {**os.environ, "LD_LIBRARY_PATH": str(driver), "PYTHONPATH": SOURCE, **variables}
    script = f"import json, os\nfrom trainenv.training import gpus\nfrom trainenv.errors import TaskError\n{code}"
    return subprocess.run(
        [sys.executable, "-c", script], env=every, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize(
    ("setting", "visible", "ids"),
    [
        (None, None, ["0", "1", "2"]),
        (None, "2,0", ["2", "0"]),
        (None, "GPU-1-of-the-test,GPU-0", ["1", "0"]),
        (None, "1,-1,2", ["1"]),
        (None, "7,1", ["1"]),
        (None, "", []),
        (["0", "2"], None, ["0", "2"]),
        (["GPU-2-of-the-test"], None, ["2"]),
        (["0", "2"], "1,2", ["2"]),
    ],
)
def test_gpus_of_the_driver_that_may_be_used(
    driver: Path, setting: list[str] | None, visible: str | None, ids: list[str]
) -> None:
    variables = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    code = f"print(json.dumps(gpus.found({setting!r}, {variables!r})))"
    found = json.loads(asked(driver, code, TEST_GPUS="81920/0 81920/81000 81920/400"))
    assert list(found) == ids
    assert set(found.values()) <= {GIGABYTES_80}


def test_gpus_that_something_else_uses(driver: Path) -> None:
    code = "print(*(sorted(gpus.in_other_use(['0', '1', '2', '9'], need)) for need in (None, 1 << 30, 50 << 30)))"
    assert asked(driver, code, TEST_GPUS="81920/400 81920/81000 81920/40000") == "['1', '2'] ['1'] ['1', '2']"


def test_no_driver_is_told(driver: Path, tmp_path: Path) -> None:
    code = "try: gpus.found(None, {})\nexcept TaskError as error: print(error)"
    assert asked(driver, code).startswith(
        "this machine has no GPU that can be used: NVML: Driver Not Loaded. 'gpus = 4'"
    )
    assert "NVML: NVML Shared Library Not Found" in asked(tmp_path, code)


def test_tasks_get_gpus_that_are_free_and_share_them(driver: Path, tmp_path: Path) -> None:
    """From ``trainenv train`` on: the supervisor asks the driver, too, though it starts without packages."""
    place = tmp_path / "envs" / "small_env"
    (place / "bin").mkdir(parents=True)
    (place / "conda-meta").mkdir()
    (place / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    (tmp_path / "trainenv.toml").touch()
    method = tmp_path / "methods" / "probe"
    method.mkdir(parents=True)
    (method / "train.py").write_text(
        "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['CUDA_DEVICE_ORDER'])"
    )
    yaml = "conda_env: small_env\nfile: train.py\nresources: {gpus: 1}\n"
    (method / "method.yaml").write_text(yaml)
    variables = {**os.environ, "LD_LIBRARY_PATH": str(driver), "TEST_GPUS": "81920/60000 81920/400"}
    command = [str(Path(sys.executable).parent / "trainenv"), "--workspace", str(tmp_path), "train", "probe"]

    def shown() -> str:
        return subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout

    assert shown() == "1 PCI_BUS_ID\n", "something else uses GPU 0"
    (method / "method.yaml").write_text(yaml.replace("gpus: 1", "gpus: 1, gpu_memory: 10GB"))
    assert shown() == "0 PCI_BUS_ID\n", "there is room for 10 GB more"
    variables["TEST_GPUS"] = "81920/81000 81920/81000"
    waiting = subprocess.run([*command, "--detach"], env=variables, check=True, capture_output=True, text=True).stdout
    assert waiting.startswith("Queued task")
    task = waiting.split()[2].rstrip(".")
    shown_task = subprocess.run([*command[:3], "task", "show", task], capture_output=True, text=True, check=True).stdout
    assert "queued (waiting for 1 GPU with 10.0 GB)" in shown_task
    subprocess.run([*command[:3], "task", "cancel", task], check=True, capture_output=True)

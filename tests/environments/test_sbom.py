from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import support
from tests.conftest import RunCommand, python_here
from trainenv import Workspace
from trainenv.environments.environment import Environment


@pytest.fixture
def chat(workspace: Workspace, wheels: Path, tmp_path: Path) -> Environment:
    """Packages with each way to state a license, from both halves."""
    licensed = "licensed-1.0.dist-info/licenses/LICENSE"
    support.make_wheel(wheels, "licensed", files={"licensed/__init__.py": "", licensed: "text"})
    (tmp_path / "r.txt").write_text(
        f"needs_greeter\nlicensed @ {(wheels / 'licensed-1.0-py3-none-any.whl').as_uri()}\n"
    )
    made = workspace.create("chat", f"python={python_here()}", files=[tmp_path / "r.txt"])
    _add_metadata(made, "greeter", "License-Expression: MIT")
    _add_metadata(made, "needs_greeter", "Classifier: License :: OSI Approved :: Apache Software License")
    _add_metadata(made, "licensed", "License: My own terms")
    return made


def _add_metadata(environment: Environment, name: str, line: str) -> None:
    (metadata,) = environment.prefix.glob(f"lib/python3.*/site-packages/{name}-*.dist-info/METADATA")
    content = metadata.read_text()
    metadata.unlink()
    metadata.write_text(f"{content}{line}\n")


def _bill(workspace: Workspace, environment: Environment) -> dict[str, Any]:
    bill = json.loads(workspace.export(environment, "sbom"))
    assert isinstance(bill, dict)
    return bill


def test_the_bill_holds_to_the_schema(workspace: Workspace, chat: Environment) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(workspace.export(chat, "sbom")) is None


def test_the_bill_names_every_package_with_purl_hash_and_license(workspace: Workspace, chat: Environment) -> None:
    components = {component["name"]: component for component in _bill(workspace, chat)["components"]}
    assert set(components) == {package.name for package in chat.packages}
    python = components["python"]
    (package,) = [item for item in chat.packages if item.name == "python"]
    assert python["purl"].startswith(f"pkg:conda/python@{package.version}?build={package.build}&channel=host&subdir=")
    assert {entry["alg"] for entry in python["hashes"]} == {"MD5", "SHA-256"}
    assert python["licenses"] == [{"expression": "PSF-2.0"}]
    assert components["greeter"]["purl"] == "pkg:pypi/greeter@1.0"
    assert components["greeter"]["hashes"][0]["alg"] == "SHA-256"
    assert components["greeter"]["licenses"] == [{"expression": "MIT"}]
    assert components["needs-greeter"]["licenses"] == [{"license": {"name": "Apache Software License"}}]
    assert components["licensed"]["licenses"] == [{"license": {"name": "My own terms"}}]


def test_the_bill_says_who_needs_whom(workspace: Workspace, chat: Environment) -> None:
    bill = _bill(workspace, chat)
    names = {component["bom-ref"]: component["name"] for component in bill["components"]}
    needs = {
        names[entry["ref"]]: sorted(names[one] for one in entry.get("dependsOn", []))
        for entry in bill["dependencies"]
        if entry["ref"] in names
    }
    assert needs["needs-greeter"] == ["greeter"]
    assert "pip" in needs["python"]
    (root,) = [entry for entry in bill["dependencies"] if entry["ref"] == "environment"]
    assert set(root["dependsOn"]) == set(names)


def test_the_same_environment_gives_the_same_bytes(
    workspace: Workspace, chat: Environment, trainenv: RunCommand, tmp_path: Path
) -> None:
    first = workspace.export(chat, "sbom")
    assert "timestamp" not in json.loads(first)["metadata"]
    assert trainenv(workspace, "env", "export", "chat", "--sbom").stdout == first
    changed = workspace.create("other", f"python={python_here()}")
    assert _bill(workspace, changed)["serialNumber"] != json.loads(first)["serialNumber"]

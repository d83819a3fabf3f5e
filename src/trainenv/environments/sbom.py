"""A software bill of materials: CycloneDX 1.6 in JSON.

The same environment gives the same bytes: the serial number is made from the content, and there
is no time in it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from email.message import Message
from email.parser import HeaderParser
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trainenv.environments.locked import LockedConda, LockedEnvironment, LockedWheel
from trainenv.environments.records import canonical_name, channel_name, conda_name, conda_records, pypi_distributions

_LONGEST_NAME = 80
"""A License field that is longer holds the license's text, not its name."""


def dump(name: str, prefix: Path, locked: LockedEnvironment) -> str:
    """The bill of the environment ``name`` in ``prefix``, whose packages are ``locked``."""
    records = conda_records(prefix)
    contents = {record.name: record.content for record in records}
    metadata = {found.key: _metadata(prefix / found.folder) for found in pypi_distributions(prefix, records)}
    components = [_conda(package, contents[package.name]) for package in locked.conda]
    components += [_pypi(wheel, metadata[wheel.name]) for wheel in locked.wheels]
    references = {component["name"]: component["bom-ref"] for component in components}
    root = {"type": "application", "bom-ref": "environment", "name": name}
    dependencies = [{"ref": "environment", "dependsOn": sorted(references.values())}]
    for package in locked.conda:
        dependencies.append(_depends(_conda_purl(package), _conda_needs(contents[package.name]), references))
    for wheel in locked.wheels:
        dependencies.append(_depends(_pypi_purl(wheel), _pypi_needs(metadata[wheel.name]), references))
    content: dict[str, Any] = {
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "trainenv", "version": version("trainenv")}]},
            "component": root,
        },
        "components": sorted(components, key=lambda component: str(component["bom-ref"])),
        "dependencies": sorted(dependencies, key=lambda entry: str(entry["ref"])),
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    head = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
    }
    return json.dumps(head | content, indent=2, ensure_ascii=False) + "\n"


def _conda(package: LockedConda, record: Mapping[str, Any]) -> dict[str, Any]:
    purl = _conda_purl(package)
    hashes = {"MD5": package.md5, "SHA-256": package.sha256}
    component = _component(package.name, package.version, purl, hashes, [str(record.get("license") or "")])
    return component | {"externalReferences": [{"type": "distribution", "url": package.url}]}


def _pypi(wheel: LockedWheel, metadata: Message) -> dict[str, Any]:
    licenses = [str(metadata.get("License-Expression") or metadata.get("License") or "")]
    if not licenses[0] or len(licenses[0]) > _LONGEST_NAME or "\n" in licenses[0]:
        classifiers = metadata.get_all("Classifier") or []
        licenses = [line.rsplit(" :: ", 1)[-1] for line in classifiers if line.startswith("License :: ")]
    component = _component(wheel.name, wheel.version, _pypi_purl(wheel), {"SHA-256": wheel.sha256}, licenses)
    if summary := metadata.get("Summary"):
        component["description"] = str(summary)
    if wheel.location:
        kind = "vcs" if wheel.is_vcs else "distribution"
        component["externalReferences"] = [{"type": kind, "url": wheel.location}]
    return component


def _component(
    name: str, version: str, purl: str, hashes: Mapping[str, str | None], licenses: list[str]
) -> dict[str, Any]:
    component: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if known := [{"alg": algorithm, "content": value} for algorithm, value in hashes.items() if value]:
        component["hashes"] = known
    if named := [text for text in licenses if text and text != "UNKNOWN"]:
        component["licenses"] = _licenses(named)
    return component


def _licenses(names: list[str]) -> list[dict[str, Any]]:
    """One SPDX expression where it is one, else the names as they stand."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    if len(names) == 1:
        try:
            return [{"expression": str(canonicalize_license_expression(names[0]))}]
        except InvalidLicenseExpression:
            pass
    return [{"license": {"name": name}} for name in names]


def _conda_purl(package: LockedConda) -> str:
    """``pkg:conda/NAME@VERSION?build=…&channel=…&subdir=…&type=…``"""
    qualifiers = {
        "build": package.build,
        "channel": channel_name(package.channel),
        "subdir": package.subdir,
        "type": "conda" if package.file_name.endswith(".conda") else "tar.bz2",
    }
    query = "&".join(f"{key}={_quoted(value)}" for key, value in qualifiers.items())
    return f"pkg:conda/{_quoted(package.name)}@{_quoted(package.version)}?{query}"


def _pypi_purl(wheel: LockedWheel) -> str:
    purl = f"pkg:pypi/{_quoted(wheel.name)}@{_quoted(wheel.version)}"
    if wheel.is_vcs:
        return f"{purl}?vcs_url={_quoted(wheel.location)}"
    return purl


def _quoted(text: str) -> str:
    return quote(text, safe=":")


def _depends(reference: str, needs: Iterator[str], references: Mapping[str, str]) -> dict[str, Any]:
    found = sorted({references[name] for name in needs if name in references} - {reference})
    return {"ref": reference, "dependsOn": found} if found else {"ref": reference}


def _conda_needs(record: Mapping[str, Any]) -> Iterator[str]:
    for line in record.get("depends") or []:
        yield conda_name(str(line))


def _pypi_needs(metadata: Message) -> Iterator[str]:
    """The packages that a distribution needs here; what only its extras need is left out."""
    from packaging.requirements import InvalidRequirement, Requirement

    for line in metadata.get_all("Requires-Dist") or []:
        try:
            requirement = Requirement(str(line))
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonical_name(requirement.name)


def _metadata(folder: Path) -> Message:
    with (folder / "METADATA").open(encoding="utf-8", errors="replace") as stream:
        return HeaderParser().parse(stream, headersonly=True)

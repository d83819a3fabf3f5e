"""YAML of locks, with a clear word for what is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainenv.errors import SpecificationError


def load_mapping(file: Path, text: str) -> dict[str, Any]:
    """``text`` as a YAML mapping. Raises ``SpecificationError`` naming ``file`` and the line."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        content = YAML(typ="safe").load(text)
    except MarkedYAMLError as error:
        where = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SpecificationError(f"{file}{where} is not valid YAML", cause=str(error.problem)) from None
    except YAMLError as error:
        raise SpecificationError(f"{file} is not valid YAML", cause=str(error)) from None
    if not isinstance(content, dict):
        raise SpecificationError(f"{file} is not a lock", cause="it is not a mapping")
    return content

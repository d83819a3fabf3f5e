"""The parameters of a method, in JSON Schema words, and the values that are given for them."""

from __future__ import annotations

import difflib
import json
import math
import numbers
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainenv.errors import ParameterError

if TYPE_CHECKING:
    from trainenv.training.method import Method

TYPES = ("string", "integer", "number", "boolean", "array", "object")

FORMATS = ("path", "uri")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_ADDRESS = re.compile(rf"{_SCHEME.pattern}//")
_KINDS = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "a boolean, true or false",
    "array": "an array, in JSON: [1, 2]",
    "object": 'an object, in JSON: {"name": 1}',
}
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


@dataclass(frozen=True)
class Parameter:
    """One parameter. A ``default`` of None means that there is none.

    Bounds count for integers and numbers and include themselves. A string of ``format`` path, or uri
    without a scheme, is made absolute. A boolean that is a ``switch`` is passed as ``--name`` alone.
    """

    name: str
    type: str = "string"
    description: str = ""
    default: object = None
    minimum: float | None = None
    maximum: float | None = None
    enum: tuple[object, ...] = ()
    required: bool = False
    format: str = ""
    switch: bool = False

    def checked(self, given: object) -> object:
        """``given`` as a value of this parameter's type; a string is read as one.

        Raises ``ParameterError``.
        """
        value = self._typed(given)
        if value is None:
            raise self._refusal(given, f"it must be {_KINDS[self.type]}")
        if self.enum and value not in self.enum:
            raise self._refusal(given, f"it must be one of {', '.join(as_text(each) for each in self.enum)}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            if self.minimum is not None and value < self.minimum:
                raise self._refusal(given, f"the minimum is {as_text(self.minimum)}")
            if self.maximum is not None and value > self.maximum:
                raise self._refusal(given, f"the maximum is {as_text(self.maximum)}")
        if not _can_be_passed(value):
            raise self._refusal(given, "neither JSON nor a command line can hold it")
        return value

    @property
    def allowed(self) -> str:
        """Which values it may have, in words: ``1 to 1000``."""
        if self.enum:
            return ", ".join(as_text(each) for each in self.enum)
        if self.minimum is not None and self.maximum is not None:
            return f"{as_text(self.minimum)} to {as_text(self.maximum)}"
        if self.minimum is not None:
            return f"{as_text(self.minimum)} or more"
        return f"{as_text(self.maximum)} or less" if self.maximum is not None else self.format

    def to_json(self) -> dict[str, object]:
        """The words of ``method.yaml`` that say something."""
        words = {
            "type": self.type,
            "description": self.description or None,
            "default": self.default,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "enum": list(self.enum) or None,
            "required": self.required or None,
            "format": self.format or None,
            "switch": self.switch or None,
        }
        return {word: value for word, value in words.items() if value is not None}

    def _refusal(self, given: object, why: str) -> ParameterError:
        return ParameterError(f"parameter {self.name!r} can't be {as_text(given)!r}", cause=why)

    def _typed(self, given: object) -> object:
        """``given`` as the parameter's type, or None if it is not of that type."""
        if self.type == "string":
            given = os.fspath(given) if isinstance(given, os.PathLike) else given
            return given if isinstance(given, str) else None
        value = self._read(given) if isinstance(given, str) else given
        if self.type == "boolean":
            return value if isinstance(value, bool) else None
        if self.type == "array":
            return list(value) if isinstance(value, list | tuple) else None
        if self.type == "object":
            return value if isinstance(value, dict) else None
        if isinstance(value, bool) or not isinstance(value, numbers.Real):  # NumPy's numbers are such.
            return None
        if self.type == "integer" and isinstance(value, numbers.Integral):
            return int(value)
        try:
            number = float(value)
        except OverflowError:
            return None
        if not math.isfinite(number) or (self.type == "integer" and not number.is_integer()):
            return None
        return int(number) if self.type == "integer" else number

    def _read(self, text: str) -> object:
        if self.type == "boolean":
            return True if text.lower() in _TRUE else False if text.lower() in _FALSE else None
        try:
            if self.type in ("integer", "number"):
                return int(text) if self.type == "integer" else float(text)
            return json.loads(text)
        except (ValueError, RecursionError):
            return None


def checked_parameters(method: Method, given: Mapping[str, object], stage: str = "train") -> dict[str, object]:
    """Every parameter of ``stage`` of ``method`` that has a value, given or default, in the method's order.

    Strings are read as the parameter's type: ``{"epochs": "3"}`` gives ``{"epochs": 3}``. Raises
    ``ParameterError`` for an unknown name, a wrong type, a value out of bounds, a missing value.
    """
    declared = method.parameters_of(stage)
    for name in given:
        if name not in declared:
            raise ParameterError(
                f"method {method.name!r} has no parameter {name!r}",
                hint=closest(name, list(declared)) or "It takes no parameters",
            )
    values = {}
    for name, parameter in declared.items():
        if name in given:
            values[name] = _absolute(parameter, parameter.checked(given[name]), os.getcwd)
        elif parameter.default is not None:
            values[name] = _absolute(parameter, parameter.checked(parameter.default), lambda: str(method.folder))
        elif parameter.required:
            raise ParameterError(
                f"method {method.name!r} needs a value for parameter {name!r}",
                hint=f"Give it with --set {name}=VALUE",
            )
    return values


def _absolute(parameter: Parameter, value: object, folder: Callable[[], str]) -> object:
    """A path as an absolute one, from ``folder``: what the caller's is to his paths, the method's to its defaults."""
    if not parameter.format or not isinstance(value, str) or value.startswith("{"):
        return value
    if parameter.format == "uri" and _SCHEME.match(value):
        return value
    if _ADDRESS.match(value):
        raise ParameterError(
            f"parameter {parameter.name!r} can't be {value!r}",
            cause="it must be a path on this machine",
            hint="A parameter with 'format: uri' can be either",
        )
    return os.path.normpath(os.path.join(folder(), os.path.expanduser(value)))


def _can_be_passed(value: object) -> bool:
    """Whether it can be written down as JSON, which has no NaN, and be an argument of a program."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return not (isinstance(value, str) and "\0" in value)


def as_text(value: object) -> str:
    """A value as the code gets it on its command line: strings as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def closest(name: str, known: list[str]) -> str:
    """A hint for a name that is not among ``known``; empty if nothing is known."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known are: {', '.join(known)}" if known else ""

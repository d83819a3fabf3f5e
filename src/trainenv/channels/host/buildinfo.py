"""Where an interpreter says it was built, made to say the prefix it is installed into.

``_sysconfigdata``, the ``Makefile``, pkg-config files and scripts hold the interpreter's prefix as
text. In the package a placeholder stands there, which whoever installs the package replaces.

Binaries keep the compiled-in prefix. That is harmless: at its start an interpreter looks for
``lib/pythonX.Y/os.py`` beside its own executable first, and the compiled-in prefix is only where it
would look if that were missing.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import PurePosixPath

from trainenv.channels.host.contents import SYSTEM_PREFIXES, Entry
from trainenv.errors import InterpreterError

PLACEHOLDER = ("/opt/trainenv_host" + "_placehold" * 24)[:255]
"""255 characters, the length that conda builds with. It stands in texts only, which may also grow."""

_DIRECTORY_KEYS = frozenset(
    {
        "prefix",
        "exec_prefix",
        "BINDIR",
        "BINLIBDEST",
        "CONFINCLUDEDIR",
        "CONFINCLUDEPY",
        "DESTDIRS",
        "DESTLIB",
        "DESTSHARED",
        "INCLDIRSTOMAKE",
        "INCLUDEDIR",
        "INCLUDEPY",
        "LIBDEST",
        "LIBDIR",
        "LIBPC",
        "LIBPL",
        "MACHDESTLIB",
        "MANDIR",
        "SCRIPTDIR",
        "datarootdir",
    }
)


def with_placeholder(entries: dict[str, Entry], prefix: str, multiarch: str) -> dict[str, Entry]:
    """``entries`` with the interpreter's ``prefix`` replaced in every text that means it.

    A prefix of the interpreter's own is replaced wherever it stands in a text. One that it shares
    with the system (``/usr``), or that was only its build's (``/install``), stands for other things
    too, so there only the values known to name the interpreter's directories are changed. The
    prefix that ``_sysconfigdata`` names, if another, is treated in the same way.
    """
    own = dict.fromkeys([prefix, *_recorded_prefixes(entries)])
    return {path: _replaced(entry, list(own), multiarch) for path, entry in entries.items()}


def _replaced(entry: Entry, prefixes: list[str], multiarch: str) -> Entry:
    if entry.link is not None or b"\0" in entry.data:
        return entry
    data = entry.data
    for prefix in prefixes:
        if prefix.encode() not in data:
            continue
        if prefix in SYSTEM_PREFIXES or prefix.count("/") < 2:
            data = _replace_known(entry.path, data, prefix, multiarch)
        else:
            data = re.sub(re.escape(prefix.encode()) + rb"(?![\w.-])", PLACEHOLDER.encode(), data)
    if data == entry.data:
        return entry
    return replace(entry, data=data, origin=None, placeholder=PLACEHOLDER.encode() in data)


def _recorded_prefixes(entries: dict[str, Entry]) -> list[str]:
    found = []
    for path, entry in entries.items():
        if _is_sysconfigdata(path):
            values = _sysconfigdata(path, entry.data)
            found += [str(values[key]) for key in ("prefix", "exec_prefix") if values.get(key)]
    return [prefix for prefix in found if prefix.startswith("/")]


def _replace_known(path: str, data: bytes, prefix: str, multiarch: str) -> bytes:
    name = PurePosixPath(path).name
    if _is_sysconfigdata(path):
        values = _redirected(_sysconfigdata(path, data), prefix, multiarch)
        lines = (f" {key!r}: {value!r},\n" for key, value in sorted(values.items()))
        return ("build_time_vars = {\n" + "".join(lines) + "}\n").encode()
    if name.startswith("_sysconfig_vars") and name.endswith(".json"):
        return json.dumps(_redirected(json.loads(data), prefix, multiarch), indent=2, sort_keys=True).encode()
    if name == "Makefile" or name.endswith((".pc", "-config")):
        return _redirected_text(data.decode(errors="surrogateescape"), prefix, multiarch)
    if path.startswith("bin/") or name == "python-config.py":
        shebang = rb"\A#! ?" + re.escape(prefix.encode()) + rb"(?=/bin/python)"
        return re.sub(shebang, b"#!" + PLACEHOLDER.encode(), data)
    return data


def _redirected(values: dict[str, object], prefix: str, multiarch: str) -> dict[str, object]:
    changed = dict(values)
    for key in _DIRECTORY_KEYS & values.keys():
        value = values[key]
        if isinstance(value, str):
            changed[key] = " ".join(_redirected_path(word, prefix, multiarch) for word in value.split())
    return changed


def _redirected_path(path: str, prefix: str, multiarch: str) -> str:
    """``path`` under the new prefix, where there is no folder per architecture in ``lib``."""
    if path != prefix and not path.startswith(f"{prefix}/"):
        return path
    rest = path[len(prefix) :]
    if multiarch:
        rest = re.sub(rf"\A/lib/{re.escape(multiarch)}(?=/|\Z)", "/lib", rest)
    return PLACEHOLDER + rest


def _redirected_text(text: str, prefix: str, multiarch: str) -> bytes:
    """Assignments of directories in a Makefile, a pkg-config file or a shell script."""

    def redirected(match: re.Match[str]) -> str:
        return match["left"] + _redirected_path(match["path"], prefix, multiarch)

    if multiarch:
        text = text.replace(f"-I${{includedir}}/{multiarch}/", "-I${includedir}/")
        text = re.sub(rf"{re.escape(prefix)}/lib/{re.escape(multiarch)}(?=[\"/\s])", f"{prefix}/lib", text)
    keys = "|".join(sorted({*_DIRECTORY_KEYS, "libdir", "includedir"}))
    assignment = rf"^(?P<left>(?:{keys})=[ \t]*\"?)(?P<path>{re.escape(prefix)}(?:/[^\s\"]*)?)(?=\"?[ \t]*$)"
    return re.sub(assignment, redirected, text, flags=re.MULTILINE).encode(errors="surrogateescape")


def _is_sysconfigdata(path: str) -> bool:
    name = PurePosixPath(path).name
    return name.startswith("_sysconfigdata") and name.endswith(".py")


def _sysconfigdata(path: str, data: bytes) -> dict[str, object]:
    try:
        for statement in ast.parse(data).body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "build_time_vars":
                values = ast.literal_eval(statement.value)
                if isinstance(values, dict):
                    return values
    except (SyntaxError, ValueError):
        pass
    raise InterpreterError(f"its {PurePosixPath(path).name} does not have the form that CPython gives it")

"""What ``--strip`` leaves out: files that an environment runs without.

Compiled Python beside its source (it is made anew), static libraries (only a linker reads them) and
the tests that packages bring of themselves, unless code outside of them imports them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from trainenv.archives.inventory import Inventory, source_of

COMPILED, TESTS, STATIC = "compiled Python", "tests", "static libraries"

_TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})
_TEST_MODULE = re.compile(r"(?:test_.*|.*_tests?|conftest)\.py\Z")
_PYTHON = re.compile(r"(?P<root>lib/python[^/]+(?:/site-packages)?)/(?P<rest>(?!site-packages/).+)")
_IMPORT = re.compile(
    rb"^(?:from[ \t]+(?P<base>[.\w]+)[ \t]+import[ \t]*(?P<names>\([^)]*\)|[^\n]*)|import[ \t]+(?P<plain>[^\n]*))",
    re.MULTILINE,
)
_ARCHIVE_HEADS = (b"!<arch>\n", b"!<thin>\n")


def strippable(prefix: Path, found: Inventory) -> dict[str, str]:
    """The files of ``prefix`` that can be left out, by path, and what each is."""
    present = set(found.files)
    kinds = dict.fromkeys(_tests(prefix, found.files), TESTS)
    for path in found.files:
        if path.endswith(".pyc") and source_of(path) in present:
            kinds[path] = COMPILED
        elif path.endswith(".a") and _begins(found.place(prefix, path), _ARCHIVE_HEADS):
            kinds[path] = STATIC
    return kinds


def _tests(prefix: Path, files: list[str]) -> Iterator[str]:
    """Files in folders of tests that nothing else imports."""
    folders: dict[str, list[str]] = {}
    holding: set[str] = set()
    for path in files:
        folder = _test_folder(path)
        if folder is not None:
            folders.setdefault(folder, []).append(path)
            if _TEST_MODULE.match(os.path.basename(path)):
                holding.add(folder)
    candidates = {_module(folder): folder for folder in holding}
    code = [path for path in files if path.endswith(".py") and _PYTHON.match(path)]
    needed: set[str] = set()
    looked_at = [path for path in code if _test_folder(path) not in holding]
    while looked_at:
        fresh = {
            candidate
            for module in _imported(prefix, looked_at)
            for candidate in _candidates_of(module, candidates)
            if candidate not in needed
        }
        needed |= fresh
        kept = {candidates[name] for name in fresh}
        looked_at = [path for path in code if _test_folder(path) in kept]
    for name, folder in candidates.items():
        if name not in needed:
            yield from folders[folder]


def _test_folder(path: str) -> str | None:
    """The outermost folder of tests below site-packages, or the standard library, that ``path`` lies in."""
    match = _PYTHON.match(path)
    if match is None:
        return None
    parts = match["rest"].split("/")[:-1]
    for position, part in enumerate(parts):
        if part in _TEST_FOLDERS:
            return "/".join((match["root"], *parts[: position + 1]))
    return None


def _module(path: str) -> str:
    """The name of the module, or package, at ``path`` below site-packages or the standard library."""
    match = _PYTHON.match(path)
    rest = match["rest"] if match else path
    return rest.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _candidates_of(module: str, candidates: Mapping[str, str]) -> Iterator[str]:
    """The folders of tests that importing ``module`` needs: itself and those that it lies in."""
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        if (name := ".".join(parts[:end])) in candidates:
            yield name


def _imported(prefix: Path, sources: Iterable[str]) -> Iterator[str]:
    """The modules that ``sources`` import as soon as they are imported themselves.

    An indented import is made later, if at all, or is one whose failure is expected.
    """
    for path in sources:
        try:
            text = (prefix / path).read_bytes()
        except OSError:
            continue
        if b"test" not in text:
            continue
        package = _module(path).split(".")
        if not path.endswith("/__init__.py"):
            package = package[:-1]
        for match in _IMPORT.finditer(text):
            if b"test" in match[0]:
                yield from _named(match, package)


def _named(match: re.Match[bytes], package: list[str]) -> Iterator[str]:
    """The modules that one import statement of a module in ``package`` names."""
    if match["plain"] is not None:
        yield from (name.split()[0] for name in match["plain"].decode(errors="replace").split(",") if name.strip())
        return
    base = match["base"].decode(errors="replace")
    dots = len(base) - len(base.lstrip("."))
    above = package[: len(package) - dots + 1] if dots else []
    whole = ".".join([*above, *filter(None, [base.lstrip(".")])])
    yield whole
    for name in re.findall(r"\w+", match["names"].decode(errors="replace")):
        yield f"{whole}.{name}" if whole else name


def _begins(file: Path, heads: tuple[bytes, ...]) -> bool:
    try:
        with file.open("rb", buffering=0) as stream:
            return stream.read(8).startswith(heads)
    except OSError:
        return False

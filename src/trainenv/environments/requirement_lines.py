"""Requirements in pip's format, line by line, as pip reads them.

uv reads this format too, but not all of it: it refuses some of pip's options and passes over others. So each line is
read here, and told to uv in uv's own words. What is known of it goes on: the file and line that it stands in.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trainenv.credentials import without_credentials
from trainenv.errors import SpecificationError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_SHORT = {
    "-r": "--requirement",
    "-c": "--constraint",
    "-e": "--editable",
    "-i": "--index-url",
    "-f": "--find-links",
    "--pypi-url": "--index-url",
}
_FLAGS = {"--no-index", "--pre", "--prefer-binary", "--require-hashes"}
_WITH_VALUE = {
    *("--requirement", "--constraint", "--editable", "--index-url", "--extra-index-url", "--find-links"),
    *("--no-binary", "--only-binary", "--trusted-host", "--use-feature"),
}
_OF_A_REQUIREMENT = {"--hash", "--config-settings", "--config-setting", "--global-option"}
_FILES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tar.xz", ".txz", ".tar.lzma", ".tlz", ".tar")

_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_NAMED_PLACE = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*\s*(?:\[[^]]*\])?\s*@\s*)(?P<place>\S.*)")
_WITH_EXTRAS = re.compile(r"(?P<place>[^;]+?)(?P<extras>\[[^]]*\])?\s*(?P<rest>;.*)?\Z")
_VCS = re.compile(r"(?:git|hg|svn|bzr)\+")
_EGG = re.compile(r"(?P<address>[^#]+)#(?P<before>(?:[^&]*&)*?)egg=(?P<name>[^&]+)&?(?P<after>.*)")


class Place(NamedTuple):
    """Where a line stands."""

    file: Path
    number: int

    def __str__(self) -> str:
        return f"{self.file} line {self.number}"


@dataclass(frozen=True)
class RequirementLine:
    """One requirement, or one option.

    ``option`` is the long name of an option, with its ``value``; for a requirement it is empty or ``--editable``. Paths
    in ``value`` are absolute. ``hashes`` are the sha256 that a requirement allows, ``settings`` what its build is told.
    ``place`` is None for what was said elsewhere, ``remark`` what its user should know.
    """

    value: str
    option: str = ""
    hashes: frozenset[str] = frozenset()
    other_hashes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    place: Place | None = None
    remark: str = ""

    @property
    def text(self) -> str:
        """The line in pip's format."""
        hashes = [f"--hash=sha256:{digest}" for digest in sorted(self.hashes)]
        hashes += [f"--hash={digest}" for digest in self.other_hashes]
        return " ".join(filter(None, (self.option, self.value, *hashes)))

    @property
    def shown(self) -> str:
        """For a message: the line, without what is secret, hashes and where it stands."""
        option = {"--editable": "-e", "--constraint": "-c"}.get(self.option, self.option)
        return without_credentials(" ".join(filter(None, (option, self.value))))

    @property
    def is_requirement(self) -> bool:
        return self.option in ("", "--editable")

    @property
    def requirement(self) -> Requirement | None:
        """The requirement, if it has a name; None for an option, a bare address or a path."""
        from packaging.requirements import InvalidRequirement, Requirement

        if self.option:
            return None
        try:
            return Requirement(self.value)
        except InvalidRequirement:
            return None


def read(text: str, file: Path, folder: Path, load: Callable[[Path], str]) -> tuple[RequirementLine, ...]:
    """The lines of ``text``, which stands in ``file``, and of the files that it includes.

    As with pip, includes begin at the folder of the file that has them, other paths at ``folder``. ``load`` reads a
    file, and raises ``SpecificationError`` for one that can't be read or is no requirements file.
    """
    return tuple(_read(text, file, folder, load, (file,)))


def of_lines(
    lines: Iterable[tuple[str, Place | None]], folder: Path, load: Callable[[Path], str], where: str
) -> tuple[RequirementLine, ...]:
    """``lines`` that stand in no requirements file, each with its place if it has one; paths begin at ``folder``.

    ``where`` says for messages where those without a place stand.
    """
    found: list[RequirementLine] = []
    for line, place in lines:
        for item in _parsed(line, place, folder, where):
            found += _included(item, folder, folder, load, ())
    return tuple(found)


def _read(
    text: str, file: Path, folder: Path, load: Callable[[Path], str], above: tuple[Path, ...]
) -> Iterator[RequirementLine]:
    for number, line in _joined(text):
        for item in _parsed(line, Place(file, number), folder):
            yield from _included(item, file.parent, folder, load, above)


def _included(
    item: RequirementLine, begin: Path, folder: Path, load: Callable[[Path], str], above: tuple[Path, ...]
) -> Iterator[RequirementLine]:
    """``item``, or for an include the lines of that file; a constraints file stays as it is."""
    if item.option not in ("--requirement", "--constraint") or "://" in item.value:
        yield item
        return
    file = Path(os.path.normpath(begin / os.path.expanduser(item.value)))
    if file in above:
        return
    try:
        text = load(file)
    except SpecificationError as error:
        raise _wrong(item.place, error.message, error.cause) if item.place else error from None
    if item.option == "--requirement":
        yield from _read(text, file, folder, load, (*above, file))
    else:
        yield replace(item, value=str(file))


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Each line with the number of its first one; a backslash at the end joins the next, comments and blanks go."""
    parts: list[str] = []
    first = 1
    for number, line in enumerate(text.splitlines(), 1):
        first = first if parts else number
        is_comment = line.lstrip().startswith("#")
        parts.append("" if is_comment else line.removesuffix("\\"))
        if not line.endswith("\\") or is_comment:
            yield first, "".join(parts)
            parts = []
    if parts:
        yield first, "".join(parts)


def _parsed(line: str, place: Place | None, folder: Path, where: object = None) -> Iterator[RequirementLine]:
    line = _COMMENT.sub("", line).strip()
    line = _VARIABLE.sub(lambda match: os.environ.get(match[1], match[0]), line)
    if not line:
        return
    where = place or where
    requirement, options = _split(line, where)
    if requirement:
        yield _with_options(RequirementLine(_located(requirement, folder), place=place), options, where)
        return
    editable: RequirementLine | None = None
    for name, value in options:
        if name == "--editable":
            editable = _editable(value, folder, place)
        elif name in _OF_A_REQUIREMENT:
            if editable is None:
                raise _wrong(where, f"{name} belongs behind a requirement")
            editable = _with_options(editable, [(name, value)], where)
        elif name == "--find-links":
            yield _folder_of_wheels(value, place, folder)
        else:
            yield RequirementLine(value, name, place=place)
    if editable is not None:
        yield editable


def _editable(value: str, folder: Path, place: Place | None) -> RequirementLine:
    """A project to use where it lies. uv makes no checkout that people could edit."""
    located = _located(value, folder)
    if not _VCS.match(value):
        return RequirementLine(located, "--editable", place=place)
    remark = (
        f"{without_credentials(value)} is installed as it is, not as a checkout to edit: "
        "for that, clone it and name its folder, -e FOLDER"
    )
    return RequirementLine(located, place=place, remark=remark)


def _split(line: str, where: object) -> tuple[str, list[tuple[str, str]]]:
    """A line as the requirement, empty for none, and the options with their values."""
    words = line.split(" ")
    start = next((index for index, word in enumerate(words) if word.startswith("-")), len(words))
    try:
        rest = shlex.split(" ".join(words[start:]))
    except ValueError as error:
        raise _wrong(where, str(error).lower()) from None
    options: list[tuple[str, str]] = []
    while rest:
        name, separator, value = rest.pop(0).partition("=")
        if re.match(r"-[a-z][^-]", name) and name[:2] in _SHORT:
            name, separator, value = name[:2], "=", f"{name[2:]}{separator}{value}"
        name = _SHORT.get(name, name)
        if name not in _FLAGS | _WITH_VALUE | _OF_A_REQUIREMENT:
            raise _wrong(where, f"{name} is not an option of requirements files")
        if name not in _FLAGS and not separator:
            if not rest:
                raise _wrong(where, f"{name} needs a value")
            value = rest.pop(0)
        options.append((name, value))
    return " ".join(words[:start]).strip(), options


def _with_options(item: RequirementLine, options: Iterable[tuple[str, str]], where: object) -> RequirementLine:
    hashes, others, settings = set(item.hashes), list(item.other_hashes), list(item.settings)
    for name, value in options:
        if name == "--hash":
            kind, _, digest = value.partition(":")
            if kind == "sha256":
                hashes.add(digest.lower())
            else:
                others.append(value)
        elif name in ("--config-settings", "--config-setting"):
            settings.append(value)
        elif name == "--global-option":
            raise _wrong(where, "--global-option is for setup.py alone", "builds take --config-settings KEY=VALUE")
        else:
            raise _wrong(where, f"{name} can't stand behind a requirement")
    return replace(item, hashes=frozenset(hashes), other_hashes=tuple(others), settings=tuple(settings))


def _located(requirement: str, folder: Path) -> str:
    """``requirement`` with an absolute path where it is or names a relative one."""
    if named := _NAMED_PLACE.fullmatch(requirement):
        return f"{named['name'].strip()} {_located_place(named['place'], folder, is_path=True)}"
    return _located_place(requirement, folder)


def _located_place(text: str, folder: Path, *, is_path: bool = False) -> str:
    if _VCS.match(text):
        return _by_name(text)
    if re.match(r"[A-Za-z][\w+.-]*:", text):
        return text
    match = _WITH_EXTRAS.match(text)
    if match is None:
        return text
    place, extras, rest = match["place"].strip(), match["extras"] or "", match["rest"] or ""
    if not (is_path or "/" in place or place.startswith((".", "~")) or place.lower().endswith(_FILES)):
        return text
    path = os.path.normpath(folder / os.path.expanduser(place))
    shown = Path(path).as_uri() if is_path or re.search(r"[\s;#%?]", path) else path
    return f"{shown}{extras}{f' {rest}' if rest else ''}"


def _by_name(address: str) -> str:
    """``git+URL#egg=NAME&subdirectory=…`` as ``NAME @ git+URL#subdirectory=…``, which says the same."""
    match = _EGG.fullmatch(address)
    if match is None:
        return address
    fragment = f"{match['before']}{match['after']}".strip("&")
    return f"{match['name']} @ {match['address']}{f'#{fragment}' if fragment else ''}"


def _folder_of_wheels(value: str, place: Place | None, folder: Path) -> RequirementLine:
    """As pip does: the folder is looked for beside the file first, and passed over where it is not there."""
    if "://" in value:
        return RequirementLine(value, "--find-links", place=place)
    value = os.path.expanduser(value)
    beside = place.file.parent / value if place else folder / value
    path = os.path.normpath(beside if beside.exists() else folder / value)
    remark = "" if os.path.exists(path) else f"{place or '--find-links'}: {path} is not there, and passed over"
    return RequirementLine(path, "--find-links", place=place, remark=remark)


def _wrong(where: object, what: str, cause: str = "") -> SpecificationError:
    return SpecificationError(f"{where}: {what}", cause=cause, hint="Mend the line")


def for_uv(lines: Iterable[RequirementLine]) -> list[RequirementLine]:
    """The lines that uv reads by itself; the others are its options and variables."""
    own = ("--constraint", "--requirement", "--find-links")
    return [line for line in lines if line.is_requirement or (line.option in own and not line.remark)]


def uv_variables(lines: Iterable[RequirementLine]) -> dict[str, str]:
    """Variables that tell uv of the indexes in ``lines``.

    Options would take the place of the indexes that pip's settings name, and other users could read them.
    """
    found: dict[str, str] = {}
    for line in lines:
        if line.option == "--index-url":
            found["UV_DEFAULT_INDEX"] = line.value
        elif line.option == "--extra-index-url":
            found["UV_INDEX"] = f"{found.get('UV_INDEX', '')} {line.value}".strip()
    return found


def uv_options(lines: Iterable[RequirementLine]) -> list[str]:
    """uv's options that say what the other ones of ``lines`` say, to resolve and to build what was resolved.

    ``--prefer-binary`` and ``--use-feature`` have no counterpart: uv prefers wheels of the version that it has chosen.
    """
    found: list[str] = []
    for line in lines:
        if line.option == "--pre":
            found += ["--prerelease", "allow"]
        elif line.option == "--no-index":
            found.append(line.option)
        elif line.option == "--trusted-host":
            found += ["--allow-insecure-host", line.value]
        elif line.option in ("--no-binary", "--only-binary"):
            for name in filter(None, map(str.strip, line.value.split(","))):
                found += [line.option, name]
        if line.settings:
            requirement = line.requirement
            option, about = (
                ("--config-settings-package", f"{requirement.name}:") if requirement else ("--config-settings", "")
            )
            found += [word for one in line.settings for word in (option, f"{about}{one}")]
    return found


def build_options(lines: Iterable[RequirementLine]) -> list[str]:
    """uv's options to install what was resolved for ``lines``: builds need the same folders of wheels."""
    lines = list(lines)
    places = (line for line in lines if line.option == "--find-links" and not line.remark)
    public = (line.value for line in places if without_credentials(line.value) == line.value)
    return uv_options(lines) + [word for place in public for word in ("--find-links", place)]

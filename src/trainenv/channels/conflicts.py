"""Why no set of packages fits, line by line: who asks for what. From what py-rattler and uv say."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

_MOST_VERSIONS = 4

_MISSING = re.compile(r"(__\w+) ([^\n]+), for which no candidates|No candidates were found for (__\w+) ([^\n]+)")

_TREE = re.compile(r"^([\s│├└─]*)(.*)$")


@dataclass(frozen=True)
class Machine:
    """What packages are chosen for: ``has`` are the versions of its virtual packages, by name."""

    has: Mapping[str, str] = field(default_factory=dict)
    is_this: bool = True


def conda_lines(text: str, machine: Machine, asked: Mapping[str, str] | None = None) -> list[str]:
    """The tree that py-rattler's solver prints, as one line for each request.

    ``asked`` are the user's own specs by name: the solver sees no package that these leave out.
    """
    return list(dict.fromkeys(_conda_lines(text, machine, asked or {})))


def way_out(text: str) -> str:
    """The option that lets in what the solver says is missing or left out; empty if none does."""
    if match := _MISSING.search(text):
        name, wanted = match[1] or match[3], match[2] or match[4]
        least = re.match(r"(?:>=|==?|~=)?(\d+(?:\.\d+)*)", wanted)
        version = least[1] if least else "12.4" if wanted.startswith("*") else "VERSION"
        if name == "__cuda":
            return f"To make it for a machine with a GPU: --cuda {version}"
        if name == "__glibc":
            return f"To make it for a machine with that C library: --glibc {version}"
        if name in ("__linux", "__osx", "__unix", "__win"):
            return "To make it for another machine: `trainenv lock --platform PLATFORM`"
        if name == "__archspec":
            return "To make it for a machine with another processor: the variable CONDA_OVERRIDE_ARCHSPEC"
    if " is excluded because the package " in text:
        return "--exclude-newer leaves packages out: give a later day, or none"
    return ""


def _conda_lines(text: str, machine: Machine, asked: Mapping[str, str]) -> Iterator[str]:
    asking: list[tuple[int, str]] = []
    for row in text.splitlines():
        match = _TREE.match(row.replace("Cannot solve the request because of: ", ""))
        assert match is not None
        depth, said = len(match[1]), match[2].strip().rstrip(".:")
        while asking and asking[-1][0] >= depth:
            asking.pop()
        if not said or said.startswith("The following packages are incompatible"):
            continue
        if said.startswith("No candidates were found for "):
            spec = _spec(said.removeprefix("No candidates were found for "))
            yield f"you ask for {spec}{_nowhere(spec, machine)}"
        elif found := re.fullmatch(r"(.+?) is excluded because the package is uploaded after .* of (.+)", said):
            yield f"{_shortened(found[1])} came after {found[2]} UTC"
        elif found := re.fullmatch(r"(.+?) is excluded because the package has no timestamp", said):
            yield f"{_shortened(found[1])} does not say when it came"
        elif said.endswith(" would require"):
            asking.append((depth, _shortened(said.removesuffix(" would require"))))
        elif found := re.match(r"(.+?),? (?:which )?(?:can be|cannot be|for which no|is locked|is excluded)", said):
            who = f"{asking[-1][1]} needs" if asking else "you ask for"
            spec = _spec(found[1])
            own = asked.get(spec.split(" ", 1)[0]) if asking else None
            is_nowhere = "no candidates" in said and own is None
            yield f"{who} {spec}{_nowhere(spec, machine) if is_nowhere else ''}"
            if "no candidates" in said and own is not None:
                yield f"you ask for {own}"
        elif "conflicts with" not in said and not re.fullmatch(r"\S+ [\d.|a-z ]+", said):
            yield said


def _spec(text: str) -> str:
    name, _, rest = _shortened(text.strip()).partition(" ")
    return name if rest == "*" else f"{name} {rest}".strip()


def _nowhere(spec: str, machine: Machine) -> str:
    name = spec.split(" ", 1)[0]
    if not name.startswith("__"):
        return ": no channel has it"
    return f": {'this machine' if machine.is_this else 'that machine'} has {machine.has.get(name, 'none')}"


def _shortened(text: str) -> str:
    """``numpy 1.20 | 1.21 | …``: of many versions only the first and last."""
    name, _, versions = text.partition(" ")
    every = [version.strip() for version in versions.split("|")]
    return text if len(every) <= _MOST_VERSIONS else f"{name} {every[0]} | ... | {every[-1]}"


_REQUIREMENT = r"[A-Za-z0-9][\w.-]*(?:\[[^]]*\])?(?:[=<>!~]\S*)?"
_CLAUSE = re.compile(
    r",? and (?=all versions of |there (?:is|are) |you require |only |the (?:current|requested) Python "
    rf"|{_REQUIREMENT}(?: \| \S+)* (?:depends? on|was|were|has|have|is|are|cannot|could) )"
)
_SEVERAL = re.compile(
    r"(?:all|any|one) of: (?P<name>[A-Za-z0-9][\w.-]*)(?P<first>\S*)(?P<more>(?: (?P=name)(?:[=<>!~]\S*)?(?=[ .,]|$))*)"
)


def pypi_lines(text: str, projects: Collection[str] = ()) -> list[str]:
    """What uv's resolver says, as one line for each reason.

    ``projects`` are the names of projects whose dependencies were asked for: what they need, the user asks for.
    """
    text = text.split("\nhint:", 1)[0]
    start = re.search(r"Because ", text)
    if start is None:
        return []
    text = " ".join(text[start.start() :].split())
    text = re.sub(r"(?<=\w)\{[^}]*\}", "", text)  # the markers of requirements, which hold here
    text = _SEVERAL.sub(_alternatives, text)
    lines: list[str] = []
    for sentence in re.split(r"\. (?=And because|Because)", text):
        given, _, _ = sentence.partition(", we can conclude")
        for clause in _CLAUSE.split(re.sub(r"^(And because|Because) ", "", given.strip().rstrip("."))):
            lines += _reasons(clause.strip(), projects)
    return list(dict.fromkeys(lines))


def _alternatives(match: re.Match[str]) -> str:
    """``pandas>=3,<4 pandas>=5`` as ``pandas>=3,<4 | >=5``."""
    more = (one.removeprefix(match["name"]) or one for one in match["more"].split())
    return " | ".join([f"{match['name']}{match['first']}", *more])


def _reasons(clause: str, projects: Collection[str]) -> Iterator[str]:
    if clause.startswith("you require "):
        yield from (f"you ask for {each}" for each in clause.removeprefix("you require ").split(" and "))
        return
    clause = re.sub(r"^(?:all versions of )?(.+?) depends? on ", r"\1 needs ", clause)
    who, needs, what = clause.partition(" needs ")
    if needs and re.split(r"[=<>!~ \[]", who)[0] in projects:
        yield from (f"you ask for {each}" for each in what.split(" and "))
        return
    # uv joins a need and the constraint of a file that speaks of the same package.
    clause = re.sub(r" needs (([\w.-]+)\S*) and (\2[<>=!~]\S*)$", r" needs \1, and \3 is wanted as well", clause)
    yield re.sub(r"^(\S+) was not found in .*", r"\1: no package index has it", clause)

"""Why no set of packages fits, line by line: who asks for what. From what py-rattler and uv say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_MOST_VERSIONS = 4

_MISSING = re.compile(r"(__\w+) ([^\n]+), for which no candidates|No candidates were found for (__\w+) ([^\n]+)")

_TREE = re.compile(r"^([\s│├└─]*)(.*)$")


@dataclass(frozen=True)
class Machine:
    """What packages are chosen for: ``has`` are the versions of its virtual packages, by name."""

    has: Mapping[str, str] = field(default_factory=dict)
    is_this: bool = True


def conda_lines(text: str, machine: Machine) -> list[str]:
    """The tree that py-rattler's solver prints, as one line for each request."""
    return list(dict.fromkeys(_conda_lines(text, machine)))


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


def _conda_lines(text: str, machine: Machine) -> Iterator[str]:
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
            yield f"{who} {spec}{_nowhere(spec, machine) if 'no candidates' in said else ''}"
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


def pypi_lines(text: str) -> list[str]:
    """What uv's resolver says, as one line for each reason."""
    text = text.split("\nhint:", 1)[0]
    start = re.search(r"Because ", text)
    if start is None:
        return []
    sentences = re.split(r"\. (?=And because|Because)", " ".join(text[start.start() :].split()))
    reasons: list[str] = []
    for sentence in sentences:
        given, _, _ = sentence.partition(", we can conclude")
        reasons += re.split(r",? and (?=all versions of |there (?:is|are) |you require |only |\S+ depends on )", given)
    return list(dict.fromkeys(_reason(reason) for reason in reasons))


def _reason(text: str) -> str:
    text = re.sub(r"^(And because|Because) ", "", text.strip().rstrip("."))
    text = re.sub(r"^you require ", "you ask for ", text)
    text = re.sub(r"^(?:all versions of )?(\S+) depends? on ", r"\1 needs ", text)
    # uv joins a need and the constraint of a file that speaks of the same package.
    text = re.sub(r" needs (([\w.-]+)\S*) and (\2[<>=!~]\S*)$", r" needs \1, and \3 is wanted as well", text)
    return re.sub(r"^(\S+) was not found in .*", r"\1: no package index has it", text)

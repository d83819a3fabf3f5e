"""Why no set of packages fits, line by line: who asks for what. From what py-rattler and uv say."""

from __future__ import annotations

import re
from collections.abc import Iterator

_MOST_VERSIONS = 4

_TREE = re.compile(r"^([\s│├└─]*)(.*)$")


def conda_lines(text: str) -> list[str]:
    """The tree that py-rattler's solver prints, as one line for each request."""
    return list(dict.fromkeys(_conda_lines(text)))


def _conda_lines(text: str) -> Iterator[str]:
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
            yield f"you ask for {spec}{_nowhere(spec)}"
        elif said.endswith(" would require"):
            asking.append((depth, _shortened(said.removesuffix(" would require"))))
        elif found := re.match(r"(.+?),? (?:which )?(?:can be|cannot be|for which no|is locked|is excluded)", said):
            who = f"{asking[-1][1]} needs" if asking else "you ask for"
            spec = _spec(found[1])
            yield f"{who} {spec}{_nowhere(spec) if 'no candidates' in said else ''}"
        elif "conflicts with" not in said and not re.fullmatch(r"\S+ [\d.|a-z ]+", said):
            yield said


def _spec(text: str) -> str:
    name, _, rest = _shortened(text.strip()).partition(" ")
    return name if rest == "*" else f"{name} {rest}".strip()


def _nowhere(spec: str) -> str:
    return ": this machine has it not" if spec.startswith("__") else ": no channel has it"


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
    return re.sub(r"^(\S+) was not found in .*", r"\1: no package index has it", text)

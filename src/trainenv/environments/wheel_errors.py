"""What uv says when it can't, as an error that names who asks for what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from trainenv.channels import refusals
from trainenv.channels.access import Access
from trainenv.channels.conflicts import pypi_lines
from trainenv.channels.pypi import index_addresses, indexes_of_uv
from trainenv.channels.refusals import Refusal
from trainenv.credentials import without_credentials
from trainenv.environments.specification import Specification, named_requirements, named_sources
from trainenv.errors import InstallError, SolveError, SpecificationError, TrainenvError


def refused(output: str, indexes: Sequence[str], access: Access) -> list[Refusal]:
    """The servers that refuse us, if that is why uv, with ``output``, could not solve for packages of ``indexes``."""
    if found := refusals.in_message(output, access):
        return [found]
    return refusals.of_missing(output, indexes, access)


def keyring_helps(refused: Sequence[Refusal], access: Access) -> bool:
    """Whether the user's keyring says who we are to a server that asks, and that nothing else was known for."""
    unknown = sorted({each.host for each in refused if each.sent is None})
    answers = [access.credentials.ask_keyring(host) for host in unknown]
    return any(answer is not None for answer in answers)


def solve_error(output: str, specification: Specification, refused: Sequence[Refusal]) -> TrainenvError:
    """Why no set of packages could be found, from what uv said."""
    text = cause(output)
    asked = ", ".join([str(file) for file in specification.requirement_files]) or "the pip requirements"
    if unreadable := _unreadable(text):
        return unreadable
    if refused:
        return refused[0].error()
    if re.search(r"error sending request|Failed to fetch|dns error|Connection refused|timed out", output):
        return InstallError(
            "the package index can't be reached",
            cause=text,
            hint="Check the network and pip's settings (`pip config list`); trainenv uses the same",
        )
    return SolveError(
        f"{asked} can't be satisfied",
        cause=text,
        hint="Change the requirement, or the Python version",
        details=tuple(pypi_lines(output)) or tuple(_by_url(output, specification)),
    )


def _unreadable(text: str) -> SpecificationError | None:
    """The line of a file that uv can't read; uv counts the characters before it."""
    every = re.findall(r"in `([^`]+)` at position (\d+)", text)
    if not every:
        return None
    file, position = every[-1][0], int(every[-1][1])
    try:
        content = Path(file).read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return None
    number = content.encode()[:position].count(b"\n") + 1
    rest = text.rpartition(f"at position {position}")[2].strip(" .^")
    return SpecificationError(f"{file} line {number} can't be read", cause=rest, hint="Mend the line")


def _by_url(output: str, specification: Specification) -> list[str]:
    """The requirements whose URL uv complains of."""
    asked = {requirement.url: requirement.name for requirement in named_requirements(specification) if requirement.url}
    return [f"you ask for {name}, by its address" for url, name in asked.items() if without_credentials(url) in output]


def install_error(output: str, access: Access) -> InstallError:
    """Why what was resolved could not be installed, from what uv said."""
    if found := refusals.in_message(output, access):
        return found.error()
    return InstallError("the PyPI packages could not be installed", cause=cause(output), hint="Nothing was changed")


def indexes_of(specification: Specification, sources: Sequence[str]) -> list[str]:
    """The indexes that a resolution asks; ``sources`` are lines of earlier requirements."""
    lines = [*named_sources(specification), *sources]
    own = [line.split(" ", 1)[1] for line in lines if line.startswith("--extra-index-url ")]
    return [*own, *index_addresses(), *indexes_of_uv(specification.folder)]


def cause(output: str) -> str:
    """The reasons in uv's message, without its decoration and its hints about uv's own options."""
    text = output.split("\nhint:", 1)[0]
    text = re.sub(r"^(warning: The `--pylock`|Using Python|Resolved|Prepared) .*$", " ", text, flags=re.MULTILINE)
    text = re.sub(r"[╰├│─▶→×]+", " ", text)
    text = re.sub(r"^\s*(error|cause|Caused by):?\s*", " ", text, flags=re.MULTILINE)
    text = re.sub(r"No solution found when resolving dependencies:?", " ", text)
    return " ".join(text.split())

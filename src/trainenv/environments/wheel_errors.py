"""What uv says when it can't, as an error that names who asks for what."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trainenv.channels import refusals
from trainenv.channels.access import Access
from trainenv.channels.conflicts import pypi_lines
from trainenv.channels.pypi import index_addresses, indexes_of_uv
from trainenv.channels.refusals import Refusal
from trainenv.credentials import without_credentials
from trainenv.environments.requirement_lines import RequirementLine
from trainenv.environments.specification import Specification, named_sources, project_names
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


def solve_error(
    output: str, specification: Specification, sent: Sequence[RequirementLine], refused: Sequence[Refusal]
) -> TrainenvError:
    """Why no set of packages could be found, from what uv said. Its standard input began with the lines ``sent``."""
    text = cause(output)
    files = [*specification.projects, *(line.place.file for line in specification.requirements if line.place)]
    if any(line.place is None for line in specification.requirements):
        files = [*specification.files, *files]
    asked = ", ".join(map(str, dict.fromkeys(files))) or "the pip requirements"
    if unreadable := _unreadable(output, sent):
        return unreadable
    if refused:
        return refused[0].error()
    if failed := _unfetched(output) or _build_failure(output):
        return failed
    conflict = pypi_lines(output, project_names(specification))
    reasons = conflict or _by_place(output, specification)
    return SolveError(
        f"{asked} can't be satisfied",
        cause="; ".join(conflict) or text,
        hint="Change the requirement, or the Python version" if conflict else "Change the requirement",
        details=reasons,
    )


_POSITION = re.compile(r"in `-` at position (?P<position>\d+)|`-` at line (?P<line>\d+)|: -:(?P<row>\d+):\d+")


def _unreadable(output: str, sent: Sequence[RequirementLine]) -> SpecificationError | None:
    """The line that uv can't read, of those that were ``sent`` to it."""
    match = _POSITION.search(output)
    if match is None:
        return None
    if match["position"]:
        before = "".join(f"{line.text}\n" for line in sent).encode()[: int(match["position"])]
        number = before.count(b"\n")
    else:
        number = int(match["line"] or match["row"]) - 1
    if number >= len(sent):
        return None
    line = sent[number]
    said = _POSITION.sub("", output).split("cause:", 1)[-1].split("\nhint:", 1)[0]
    why = said.strip().splitlines()[0].removeprefix("error:").strip(" :")
    where = f"{line.place}: {line.shown!r}" if line.place else repr(line.shown)
    is_conda = 'operator "="' in why
    hint = (
        "NAME=VERSION is conda's way: say NAME==VERSION, or name it before the files" if is_conda else "Mend the line"
    )
    return SpecificationError(f"{where} can't be read", cause=why, hint=hint)


def _by_place(output: str, specification: Specification) -> list[str]:
    """The requirements whose address or path uv complains of."""
    found = []
    for line in specification.requirements:
        requirement = line.requirement
        place = requirement.url if requirement else line.value if re.search(r"[/:]", line.value) else None
        place = re.sub(r"^\w+\+|[\[#].*| ;.*|@[^/@]*$", "", place or "")
        if place and without_credentials(place) in output:
            found.append(f"{line.place}: {line.shown}" if line.place else f"you ask for {line.shown}")
    return found


_FAILED = re.compile(r"Failed to (?P<what_for>download|(?:download and )?build) `?(?P<what>[^`\n]+?)`?$", re.MULTILINE)


def _unfetched(output: str) -> InstallError | None:
    """What could not be fetched: a repository, a file, or a page of an index."""
    match = _FAILED.search(output)
    what = match["what"].replace("==", " ") if match else ""
    said = output.split("\nhint:", 1)[0]
    if "Git operation failed" in said:
        by_git = said.rpartition("--- stderr\n")[2].partition("Please make sure")[0]
        lines = [line.strip() for line in by_git.splitlines() if line.strip()]
        reasons = [re.sub(r"^(cause|fatal|error|ERROR|remote): ", "", line) for line in lines]
        return InstallError(
            f"{what} can't be fetched",
            cause="; ".join(reasons[-2:]) if "--- stderr" in said else reasons[-1],
            hint="Check its address, its branch or tag, and that `git ls-remote ADDRESS` answers; nothing was changed",
        )
    place = re.search(r"Failed to fetch: `?(https?://[^\s`]+)", said)
    if place is None:
        return None
    causes = re.findall(r"^\s*cause: (.+)$", said[place.start() :], re.MULTILINE) or [cause(said[place.end() :])]
    reason = re.sub(
        r"^HTTP status \w+ error \(|^failed to lookup address information: |\) for url \(.*\)$", "", causes[-1]
    )
    return InstallError(
        f"{what} can't be fetched" if what else "the package index can't be reached",
        cause=reason if place[1] in what else f"{place[1]}: {reason}",
        hint="Check the network and pip's settings (`pip config list`); trainenv uses the same",
    )


_MOST_BUILD_LINES = 12


def _build_failure(output: str) -> InstallError | None:
    """The package that came as source and could not be built, with the last lines of its build."""
    match = _FAILED.search(output)
    if match is None or match["what_for"] == "download":
        return None
    what = match["what"].replace("==", " ")
    _, _, said = output[match.end() :].rpartition("[stderr]")
    lines = [line.strip() for line in said.split("\nhint:", 1)[0].splitlines() if line.strip()]
    if "[stderr]" not in output or not lines:
        lines = [cause(output[match.end() :])]
    return InstallError(
        f"{what} could not be built",
        cause=lines[-1],
        hint="It came as source: ask for a version that has a wheel for this Python and machine, or install what its "
        "build needs; nothing was changed",
        details=lines[-_MOST_BUILD_LINES:] if len(lines) > 1 else (),
    )


def install_error(output: str, access: Access) -> InstallError:
    """Why what was resolved could not be installed, from what uv said."""
    if found := refusals.in_message(output, access):
        return found.error()
    if failed := _unfetched(output) or _build_failure(output):
        return failed
    return InstallError("the PyPI packages could not be installed", cause=cause(output), hint="Nothing was changed")


def indexes_of(specification: Specification, sources: Sequence[str]) -> list[str]:
    """The indexes that a resolution asks; ``sources`` are lines of earlier requirements."""
    lines = [*named_sources(specification), *sources]
    own = [line.split(" ", 1)[1] for line in lines if line.startswith("--extra-index-url ")]
    return [*own, *index_addresses(), *indexes_of_uv(specification.folder)]


def warnings(output: str) -> list[str]:
    """What uv, successful, warns of as pip does: extras that a package has not, and releases taken back."""
    found = re.findall(r"^warning: (?:The package )?(.+ (?:does not have an extra|is yanked).*)$", output, re.MULTILINE)
    return [line.replace("`", "") for line in dict.fromkeys(found)]


def cause(output: str) -> str:
    """The reasons in uv's message, without its decoration and its hints about uv's own options."""
    text = output.split("\nhint:", 1)[0]
    text = re.sub(r"^(warning:|Using Python|Resolved|Prepared) .*$", " ", text, flags=re.MULTILINE)
    text = re.sub(r"[╰├│─▶→×]+", " ", text)
    text = re.sub(r"^\s*(error|cause|Caused by):?\s*", " ", text, flags=re.MULTILINE)
    text = re.sub(r"No solution found when resolving dependencies:?", " ", text)
    return " ".join(text.split())

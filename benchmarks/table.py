"""The results as Markdown: a table a case, readable without anything beside it."""

from __future__ import annotations

from benchmarks.measuring import Comparison, Measured
from benchmarks.results import Results, Spread, compared, rounds_of


def markdown(results: Results, picture: str) -> str:
    """The whole page; ``picture`` is the file name of the picture that lies beside it."""
    versions = ", ".join(f"{name} {version}" for name, version in results.machine.versions.items())
    lines = [
        "# trainenv beside its peers",
        "",
        f"- **When:** {results.date}, load average {results.load:.2f} at the start",
        f"- **Machine:** {results.machine.sentence()}",
        f"- **Versions:** {versions}",
        f"- **Environment:** {results.environment.sentence()}",
        "- **How:** whole processes, rounds interleaved after one that warms the caches; each cell is the median of "
        "the rounds [least – most]. Lower is better everywhere. CPU time is that of all processes of the command; "
        f"peak memory is that of its largest process, and can't be seen under {results.memory_floor / 1e6:.0f} MB. "
        "Where others kept the machine busy, wall times say little, and CPU times still something.",
        "",
        f"![Wall time and peak memory of each, as bars]({picture})",
    ]
    for measured in results.cases:
        lines += ["", *_case(measured)]
    return "\n".join(lines) + "\n"


def _case(measured: Measured) -> list[str]:
    case = measured.case
    milliseconds = case.comparison is Comparison.DIFFERENCE
    factor, unit = (1e3, "ms") if milliseconds else (1.0, "s")
    sizes = any(contender.output for contender in case.contenders)
    against = f"over the {case.contenders[-1].name}, {unit}" if milliseconds else "trainenv's time ÷ its time"
    heads = [
        "",
        f"wall time, {unit}",
        f"CPU time, {unit}",
        "peak memory, MB",
        *(["archive, MB"] if sizes else []),
        against,
    ]
    lines = [
        f"## {case.title}",
        "",
        f"{rounds_of(measured)} rounds; others kept {measured.cores_used_by_others:.1f} cores busy meanwhile.",
    ]
    if case.note:
        lines[-1] += f" {case.note}"
    lines += ["", _row(heads), _row(["---"] + ["---:"] * (len(heads) - 1))]
    for contender in case.contenders:
        samples = measured.samples[contender.name]
        cells = [
            f"**{contender.name}**" if contender.name.startswith("trainenv ") else contender.name,
            _spread(Spread.of([sample.seconds for sample in samples]), factor),
            _spread(Spread.of([sample.cpu_seconds for sample in samples]), factor),
            _spread(Spread.of([sample.peak_memory for sample in samples]), 1e-6),
        ]
        if sizes:
            cells.append(_spread(Spread.of([sample.output_size or 0 for sample in samples]), 1e-6))
        spread = compared(measured, contender.name)
        cells.append(_spread(spread, factor, sign=milliseconds) if spread else "")
        lines.append(_row(cells))
    for peer in case.missing:
        lines.append(_row([peer, "missing on this machine", *[""] * (len(heads) - 2)]))
    return lines


def _spread(spread: Spread, factor: float, sign: bool = False) -> str:
    """Median and range times ``factor``, with as many digits as the median deserves; once where all are the same."""
    values = [value * factor for value in (spread.median, spread.least, spread.most)]
    digits = 0 if abs(values[0]) >= 100 else 1 if abs(values[0]) >= 10 else 2
    middle, least, most = (format(value, f"{'+' if sign else ''}.{digits}f") for value in values)
    return middle if least == most else f"{middle} [{least} – {most}]"


def _row(cells: list[str]) -> str:
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"

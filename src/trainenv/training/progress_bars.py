"""What the progress bars in a log measure: tqdm's (also Lightning's and Rich's) and Keras's.

Standard library only. A bar is drawn anew many times a second, and each drawing repeats what it
knows. So not every drawing is a record: there is one for each time that a bar has run (an epoch, say),
of what it showed last, and while it runs at most one every five seconds and every hundredth of
its way, of what has changed. All of it is read from what is drawn, never from a clock: the
same log gives the same records.

A record's ``epoch`` is what the bar calls it, its ``step`` how many steps the bars of that name have
made in all.
"""

from __future__ import annotations

import re

from trainenv.training.metric_lines import NUMBER, Metrics, from_named

_COUNT = r"(\d+(?:\.\d+)?[kMG]?)"
_TQDM = re.compile(
    rf"(?:(?P<name>[^|]*?):?\s+)?(?:\d+%)?\|[^|]*\|\s*{_COUNT}/(?:{_COUNT}|\?)"
    r"\s+\[(?P<elapsed>[\d:]+)<(?P<postfix>[^\]]*)\]"
)
_TQDM_ENDLESS = re.compile(rf"(?:(?P<name>[^|]*?):\s+)?{_COUNT}it\s+\[(?P<elapsed>[\d:]+),(?P<postfix>[^\]]*)\]")
_RICH = re.compile(
    r"(?P<name>\S.*?)\s+[━╸╺─-]{5,}\s*[━╸╺─ -]*\s(\d+)/(\d+)\s+(?P<elapsed>\d+:\d\d:\d\d) •\s+"
    r"(?:[\d:-]+\s+)?\S+(?P<items>.*)\Z"
)
_RICH_MORE = re.compile(r"\s{10,}(?:[\d-]+:[\d-]+:[\d-]+(?!\S))?(?P<items>.*\S)")
"""Where the line was too short for it: what is left of the time, then of the items."""
_KERAS = re.compile(r"(\d+)/(\d+|Unknown)\s+(?:\[[=>.]*\]|━+|(?P<dash>-))(?P<rest>\s.*)\Z")
_KERAS_EPOCH = re.compile(r"Epoch (\d+)/\d+\Z")
_KERAS_PACE = re.compile(r"(\d+)(us|ms|s)/step")
_PAIR = re.compile(rf"([A-Za-z_][\w./-]*)=({NUMBER})\Z")
_ITEM = re.compile(rf"([A-Za-z_][\w./-]*):\s+({NUMBER})(?=\s|\Z)")
_EPOCH = re.compile(r"\bepochs?\b\W*(\d+)?", re.IGNORECASE)
_DIGITS = re.compile(r"\d+")

_SCALE = {"k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_NOT_MEASURED = ("v_num",)
_MOST_NAMES = 50
_LEAST_SECONDS = 5.0
_LEAST_PART = 0.01


class Bars:
    """The bars that a log shows. Lines go in by ``line``, in their order; ``finish`` comes last."""

    def __init__(self) -> None:
        self._bars: dict[str, _Bar] = {}
        self._keras_epoch: int | None = None
        self._rich = ""

    def line(self, text: str) -> tuple[str, list[Metrics]]:
        """What of the line ``text`` is no bar, and the records that are due with it."""
        if self._rich:
            if more_of_it := _RICH_MORE.match(text):
                self._rich += f" {more_of_it['items'].strip()}"
                return "", []
            found = self._finish_rich()
            rest, more = self.line(text)
            return rest, found + more
        if "|" in text and (match := _TQDM.match(text)):
            done, total = _count(match[2]), _count(match[3] or "0")
            return text[match.end() :], self._tqdm(match, done, total)
        if "it [" in text and (match := _TQDM_ENDLESS.match(text)):
            return text[match.end() :], self._tqdm(match, _count(match[2]), 0)
        stripped = text.strip()
        if match := _KERAS_EPOCH.match(stripped):
            self._keras_epoch = int(match[1])
            return "", self._bar("keras").restart()
        if " - " in stripped and (match := _KERAS.match(stripped)):
            return "", self._keras(match)
        if "━" in stripped and _RICH.match(stripped):
            self._rich = stripped
            return "", []
        return text, []

    def finish(self) -> list[Metrics]:
        """What the bars showed last, once the log has ended."""
        found = self._finish_rich()
        for bar in self._bars.values():
            found += bar.flush()
        self._bars.clear()
        return found

    def _tqdm(self, match: re.Match[str], done: int, total: int) -> list[Metrics]:
        _, *items = match["postfix"].split(", ")
        pairs = [pair for item in items if (pair := _PAIR.match(item.strip()))]
        values = from_named((pair[1], pair[2]) for pair in pairs if pair[1] not in _NOT_MEASURED)
        return self._drawn(match["name"] or "", done, total, _clock(match["elapsed"]), values)

    def _finish_rich(self) -> list[Metrics]:
        text, self._rich = self._rich, ""
        match = _RICH.match(text)
        if match is None:
            return []
        values = from_named((item[1], item[2]) for item in _ITEM.finditer(match["items"]))
        values = {name: value for name, value in values.items() if name not in _NOT_MEASURED}
        return self._drawn(match["name"], int(match[2]), int(match[3]), _clock(match["elapsed"]), values)

    def _keras(self, match: re.Match[str]) -> list[Metrics]:
        """Keras says its epochs on lines of their own. A bar without one is an evaluation's."""
        done = int(match[1])
        total = 0 if match[2] == "Unknown" else int(match[2])
        fit, found = self._bar("keras"), []
        if done < fit.done or total != (fit.total or total):
            self._keras_epoch = None
            found = fit.restart()
        rest = match["rest"]
        items = [item for part in rest.split(" - ") if (item := _ITEM.fullmatch(part.strip()))]
        values = from_named((item[1], item[2]) for item in items)
        if self._keras_epoch is None:
            values = {f"eval_{name}": value for name, value in values.items()}
            return found + self._bar("keras evaluation").draw(done, total, 0.0, values, position=None)
        pace = _KERAS_PACE.search(rest)
        elapsed = done * int(pace[1]) * _SECONDS[pace[2]] if pace else 0.0
        found += fit.draw(done, total, elapsed, values, self._keras_epoch)
        if match["dash"]:  # It prints nothing but this line about the epoch.
            found += fit.restart()
            self._keras_epoch = None
        return found

    def _drawn(self, name: str, done: int, total: int, elapsed: float, values: Metrics) -> list[Metrics]:
        epoch = _EPOCH.search(name)
        bar = self._bar(_DIGITS.sub("#", name.strip()))
        number = int(epoch[1]) if epoch and epoch[1] else None
        counts_epochs = epoch is not None and number is None
        return bar.draw(done, total, elapsed, values, number, position="epoch" if counts_epochs else "step")

    def _bar(self, name: str) -> _Bar:
        if name not in self._bars:
            if len(self._bars) >= _MOST_NAMES:
                del self._bars[next(iter(self._bars))]
            self._bars[name] = _Bar()
        return self._bars[name]


class _Bar:
    """One bar, over all its runs: how far it is, and what it shows that is no record yet."""

    def __init__(self) -> None:
        self.done = self.total = 0
        self._before = 0
        self._epoch: int | None = None
        self._position: str | None = None
        self._shown: Metrics = {}
        self._recorded: Metrics = {}
        self._recorded_done = 0
        self._recorded_at = 0.0

    def draw(
        self,
        done: int,
        total: int,
        elapsed: float,
        values: Metrics,
        epoch: int | None = None,
        *,
        position: str | None = "step",
    ) -> list[Metrics]:
        """The records that are due when the bar shows ``values`` after ``done`` of ``total`` steps.

        ``total`` is 0 where nobody knows it; ``elapsed`` is in seconds, of this run of the bar.
        """
        found = self.restart() if done < self.done or epoch != self._epoch else []
        self.done, self.total, self._epoch, self._position = done, total, epoch, position
        if not values or not done:  # Before its first step a bar shows what its last run measured.
            return found
        self._shown = values
        late = elapsed - self._recorded_at >= _LEAST_SECONDS
        if late and done < (total or done + 1) and done - self._recorded_done >= total * _LEAST_PART:
            changed = {name: value for name, value in values.items() if self._recorded.get(name) != value}
            found += self._record(changed)
            self._recorded_done, self._recorded_at = done, elapsed
        return found

    def restart(self) -> list[Metrics]:
        """The record of the run that is over."""
        found = self.flush()
        self._before += self.done
        self.done = self.total = self._recorded_done = 0
        self._recorded_at = 0.0
        return found

    def flush(self) -> list[Metrics]:
        """The record of what the bar shows."""
        return self._record(self._shown)

    def _record(self, values: Metrics) -> list[Metrics]:
        if not values:
            return []
        self._recorded = self._recorded | values
        self._shown = {}
        where: Metrics = {} if self._epoch is None else {"epoch": self._epoch}
        if self._position:
            where[self._position] = self._before + self.done
        return [where | values]


def _count(text: str) -> int:
    """``1200`` or ``1.2k`` as a number."""
    return int(float(text[:-1]) * _SCALE[text[-1]]) if text[-1] in _SCALE else int(float(text))


def _clock(text: str) -> float:
    """``01:02:03`` or ``02:03`` in seconds."""
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60 + int(part or 0)
    return seconds

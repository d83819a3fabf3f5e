"""Which tasks are meant, as people write it."""

from __future__ import annotations

import datetime

import pytest

from trainenv.errors import UsageError
from trainenv.training.selection import condition, point_in_time

PARAMETERS = {"rate": 1e-3, "optimizer": "adam", "shuffle": True, "epochs": 3}
METRICS = {"loss": 0.25, "epochs": 2, "diverged": None}


@pytest.mark.parametrize(
    "text",
    [
        "rate<0.01",
        "rate = 1e-3",
        "rate==0.001",
        "loss<=0.25",
        "optimizer=adam",
        "optimizer!=sgd",
        "shuffle=true",
        "epochs=3",
        "metrics.epochs=2",
        "params.epochs>2",
        "loss!=nothing",
    ],
)
def test_conditions_that_hold(text: str) -> None:
    assert condition(text).holds(PARAMETERS, METRICS)


@pytest.mark.parametrize(
    "text",
    ["rate>0.01", "accuracy>0", "optimizer=Adam", "optimizer>1", "diverged<1", "metrics.rate<1", "shuffle=false"],
)
def test_conditions_that_do_not(text: str) -> None:
    assert not condition(text).holds(PARAMETERS, METRICS)


@pytest.mark.parametrize("text", ["", "rate", "rate<", "<3", "rate<many", "rate ~ 3"])
def test_what_is_no_condition_is_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="Write it as"):
        condition(text)


def test_times_are_told_in_several_ways() -> None:
    now = datetime.datetime.now(tz=datetime.timezone.utc)
    for text, seconds in {"90s": 90, "30m": 1800, "2h": 7200, "7d": 604800, "1w": 604800, "1.5h": 5400}.items():
        ago = now - datetime.datetime.fromisoformat(point_in_time(text).replace("Z", "+00:00"))
        assert abs(ago.total_seconds() - seconds) < 60
    assert point_in_time("2026-11-22T09:05:00Z") == "2026-11-22T09:05:00.000Z"
    assert point_in_time("2026-11-22T10:05:00+01:00") == "2026-11-22T09:05:00.000Z"
    local = datetime.datetime(2026, 11, 22).astimezone(datetime.timezone.utc)
    assert point_in_time("2026-11-22") == f"{local:%Y-%m-%dT%H:%M:%S}.000Z"
    for wrong in ("", "yesterday", "2h ago", "2026-13-01", "5"):
        with pytest.raises(UsageError, match="no time"):
            point_in_time(wrong)

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainenv.environments import stacking
from trainenv.environments.stacking import Step

_NAMES = st.sampled_from(["A", "B", "C", "VIRTUAL_ENV", "PYTHONHOME"])
_VALUES = st.sampled_from(["", "1", "two\nlines", "/x y"])
_VARIABLES = st.dictionaries(_NAMES, _VALUES)
_PATHS = st.none() | st.sampled_from(["", "/bin", "/usr/bin:/bin", "::/bin:", "@0/bin:/bin", "/bin:@1/bin:@1/bin"])


def _after(base: Mapping[str, str], step: Step) -> dict[str, str]:
    merged = {**base, **step.changes}
    return {key: value for key, value in merged.items() if value is not None}


def _prefix(folder: Path, declared: Mapping[str, str]) -> Path:
    (folder / "conda-meta").mkdir(parents=True, exist_ok=True)
    (folder / "conda-meta" / "state").write_text(json.dumps({"env_vars": dict(declared)}))
    return folder


@given(
    base=_VARIABLES,
    path=_PATHS,
    declared=st.lists(_VARIABLES, min_size=2, max_size=3),
    later=_VARIABLES,
    order=st.lists(st.integers(0, 1), min_size=1, max_size=4),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_activated_leaving_it_restores_each_variable(
    tmp_path: Path,
    base: dict[str, str],
    path: str | None,
    declared: list[dict[str, str]],
    later: dict[str, str],
    order: list[int],
) -> None:
    prefixes = [_prefix(tmp_path / str(number), values) for number, values in enumerate(declared)]
    if path is not None:
        base = base | {"PATH": path.replace("@", f"{tmp_path}/")}
    now, stack = base, [base]
    for number in order:
        again = now.get("CONDA_PREFIX") == str(prefixes[number])
        now = _after(now, stacking.activate(prefixes[number], str(number), now))
        stack = [*stack[:-1], now] if again else [*stack, now]
        assert now["PATH"].split(":")[0] == f"{prefixes[number]}/bin"
        assert now["CONDA_SHLVL"] == str(len(stack) - 1)
        for name, value in declared[number].items():
            assert now[name] == value
    _prefix(prefixes[order[-1]], later)
    while len(stack) > 1:
        stack.pop()
        now = _after(now, stacking.deactivate(now))
        assert now == stack[-1]


def test_the_other_environments_variables_are_put_away(tmp_path: Path) -> None:
    outer, inner = _prefix(tmp_path / "outer", {"A": "outer"}), _prefix(tmp_path / "inner", {})
    base = {"PATH": "/bin", "A": "before"}
    first = _after(base, stacking.activate(outer, "outer", base))
    second = _after(first, stacking.activate(inner, "inner", first))
    assert (first["A"], second["A"]) == ("outer", "before")


def test_scripts_run_in_the_environments_that_are_left_and_entered(tmp_path: Path) -> None:
    outer, inner = _prefix(tmp_path / "outer", {}), _prefix(tmp_path / "inner", {})
    entering = stacking.activate(outer, "outer", {})
    assert (entering.left, entering.entered) == (None, outer)
    first = _after({}, entering)
    changing = stacking.activate(inner, "inner", first)
    assert (changing.left, changing.entered, changing.prompt) == (outer, inner, ("(outer) ", "(inner) "))
    back = stacking.deactivate(_after(first, changing))
    assert (back.left, back.entered, back.prompt) == (inner, outer, ("(inner) ", "(outer) "))


def test_lists_that_conda_left_behind_are_not_believed(tmp_path: Path) -> None:
    one, two = _prefix(tmp_path / "one", {}), _prefix(tmp_path / "two", {"A": "two"})
    base = {"PATH": "/bin", "A": "before"}
    stacked = _after(base, stacking.activate(one, "one", base))
    stacked = _after(stacked, stacking.activate(two, "two", stacked))
    # conda deactivates both and activates the second on another one; it keeps what it doesn't know.
    stale = {key: value for key, value in stacked.items() if key.startswith(("_TRAINENV", "__CONDA"))}
    other = _prefix(tmp_path / "other", {})
    by_conda = stale | {
        "PATH": f"{two}/bin:/bin",
        "A": "two",
        "CONDA_SHLVL": "2",
        "CONDA_PREFIX": str(two),
        "CONDA_PREFIX_1": str(other),
    }
    now = _after(by_conda, stacking.deactivate(by_conda))
    assert (now["CONDA_PREFIX"], now["PATH"]) == (str(other), f"{other}/bin:/bin")


@pytest.mark.parametrize("level", [{}, {"CONDA_SHLVL": ""}, {"CONDA_SHLVL": "x"}, {"CONDA_SHLVL": "7"}])
def test_an_odd_count_does_no_harm(tmp_path: Path, level: dict[str, str]) -> None:
    outer, inner = _prefix(tmp_path / "outer", {}), _prefix(tmp_path / "inner", {})
    base = level | {"PATH": f"{outer}/bin:/bin", "CONDA_PREFIX": str(outer)}
    assert stacking.launched(inner, "inner", base)["PATH"] == f"{inner}/bin:/bin"
    assert "CONDA_PREFIX" not in _after(base, stacking.deactivate(base))


def test_what_is_launched_carries_no_books(tmp_path: Path) -> None:
    outer, inner = _prefix(tmp_path / "outer", {"A": "outer"}), _prefix(tmp_path / "inner", {"B": "inner"})
    base = {"PATH": "/bin", "A": "before", "B": "before"}
    active = _after(base, stacking.activate(outer, "outer", base))
    assert stacking.launched(inner, "inner", active) == {
        "PATH": f"{inner}/bin:/bin",
        "A": "before",
        "B": "inner",
        "CONDA_PREFIX": str(inner),
        "CONDA_SHLVL": "1",
        "CONDA_DEFAULT_ENV": "inner",
        "CONDA_PROMPT_MODIFIER": "(inner) ",
    }

"""Tables: aligned whatever they hold, and folded where the terminal ends."""

from __future__ import annotations

from trainenv.cli.table import lines


def test_columns_are_aligned() -> None:
    found = lines(["Name", "Size"], [["a", 1], ["long name", None], ["日本", 100]], right=["Size"])
    assert found == ["Name       Size", "a             1", "long name", "日本        100"]


def test_what_is_too_wide_is_folded_at_blanks() -> None:
    found = lines(["Id", "Text"], [["1", "some words that go on and on"], ["2", "x" * 30]], width=20)
    assert all(len(line) <= 20 for line in found)
    assert found[1:3] == ["1   some words that", "    go on and on"]
    assert "".join(line[4:] for line in found[3:]) == "x" * 30


def test_lines_in_a_cell_stay_lines() -> None:
    assert lines(["A", "B"], [["1\n2", "x"]]) == ["A  B", "1  x", "2"]


def test_what_a_row_is_called_stays_whole_while_the_others_can_make_room() -> None:
    rows = [["20261125-090605-d360e0", "a description of many words", "2026-11-25 09:06:05"]]
    assert [line.split()[0] for line in lines(["Id", "What", "Started"], rows, width=45)][:2] == ["Id", rows[0][0]]
    assert max(map(len, lines(["Id", "What", "Started"], rows, width=45))) <= 45
    assert max(map(len, lines(["Id", "What", "Started"], rows, width=30))) <= 30

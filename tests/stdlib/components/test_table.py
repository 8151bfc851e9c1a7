"""Tables: how they are made, what cells look like in Markdown, and that a model's table can be read back."""

from __future__ import annotations

import pytest

import mellea
from mellea.core import ComputedModelOutputThunk
from mellea.errors import UsageError
from mellea.stdlib.components import Table, get_tools
from mellea.testing import ScriptedBackend

CELLS = ["a|b", "back\\slash", "ends\\", "\\|", "\\\\|", "two\nlines", "C:\\new\\|x", "", "ü|"]


def test_tables_are_made_of_dicts_of_rows_and_of_csv() -> None:
    made = Table([{"a": 1, "b": 2}, {"b": 3, "c": 4}])
    assert made.columns == ("a", "b", "c")
    assert made.rows == ((1, 2, None), (None, 3, 4))
    assert Table([["a", "b"], [1, 2], [3]]) == Table([[1, 2], [3, None]], ["a", "b"])
    assert Table([{"a": 1, "b": 2}], ["b"]) == Table([[2]], ["b"])
    assert Table.from_csv('a;b\n1;"x;y"\n\n', delimiter=";") == Table([["1", "x;y"]], ["a", "b"])
    assert Table([], ["a"]).to_markdown() == "| a |\n| --- |"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a,b",), "from_csv"),
        ((3,), "list of rows, not 3"),
        (([],), "at least one column"),
        (([[1, 2]],), None),
        (([[1, 2]], ["a"]), r"has 2 cells, but there are 1"),
        (([{"a": 1}, [2]],), "all dicts or all lists"),
        ((["ab"],), "a row of a Table"),
        (([[1]], [2]), "strings as names"),
    ],
)
def test_what_is_no_table_is_refused(arguments: tuple[object, ...], message: str | None) -> None:
    if message is None:
        assert Table(*arguments).columns == ("1", "2")  # type: ignore[arg-type]
        return
    with pytest.raises(UsageError, match=message):
        Table(*arguments)  # type: ignore[arg-type]


def test_cells_are_escaped_and_read_back_as_they_were() -> None:
    table = Table([CELLS, CELLS[::-1]], [f"{place}|" for place in range(len(CELLS))])
    lines = table.to_markdown().splitlines()
    assert len(lines) == 4, "a cell's line break is none of the table's"
    assert Table.from_markdown(table.to_markdown()) == table
    assert Table.from_markdown("a | b\n:-: | -\n1 | 2") == Table([["1", "2"]], ["a", "b"])
    with pytest.raises(UsageError, match="line of dashes"):
        Table.from_markdown("| a |\n| b |")


def test_values_of_cells() -> None:
    cells = [None, True, 1.5, {"k": [1]}, ComputedModelOutputThunk("t|u")]
    assert Table([cells], list("abcde")).to_markdown().endswith('|  | true | 1.5 | {"k": [1]} | t\\|u |')


def test_a_table_is_transposed() -> None:
    table = Table([["x", 1, 2], ["y", 3, 4]], ["name", "a", "b"])
    assert table.transpose() == Table([["a", 1, 3], ["b", 2, 4]], ["name", "x", "y"])
    assert table.transpose().transpose() == table


def test_a_models_tools_for_a_table() -> None:
    assert [tool.name for tool in get_tools(Table([], ["a"]))] == ["from_markdown", "transpose"]


def test_a_thunk_in_a_cell_is_awaited() -> None:
    m = mellea.start_session(ScriptedBackend("red", lambda request: request.messages[-1].content))

    async def main() -> str:
        colour = await m.ainstruct("Name a colour.", await_result=False)
        return str(await m.aquery(Table([[colour]], ["colour"]), "Which?"))

    import anyio

    assert "| red |" in anyio.run(main)

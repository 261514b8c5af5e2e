"""The filter language: what it understands means what SQL means; the rest is refused."""

import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tritonbulk.errors import OptionError
from tritonbulk.source.where import make_filter

TABLE = pa.table(
    {
        "a": pa.array([1, 2, None, 4], pa.int32()),
        "x": pa.array([0.5, -1.5, 2.5, None], pa.float32()),
        "s": ["AA", "it's", None, "a`b"],
        "odd name": [1, 2, 3, 4],
        "t": pa.array([dt.date(2024, 1, day) for day in (1, 2, 3, 4)]),
        "b": [True, False, None, True],
    }
)


def rows(where):
    """Return the positions of the rows that pass."""
    found = make_filter(where, TABLE.schema)
    numbered = TABLE.append_column("row", pa.array(range(4)))
    return numbered.filter(found.expression)["row"].to_pylist()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("a == 2", [1]),
        ("a != 2", [0, 3]),
        ("not a == 2", [0, 3]),
        ("1 < a <= 4", [1, 3]),
        ("2 >= a", [0, 1]),
        ("x > -2 and x < 1", [0, 1]),
        ("a == 1 or x == 2.5", [0, 2]),
        ("a > 3 or a < 2 and x > 0", [0, 3]),
        ("(a > 3 or a < 2) and x > 0", [0]),
        ("a in (1, 4)", [0, 3]),
        ("a not in [1, 4]", [1]),
        ("not (a in (1, 4))", [1]),
        ("s in ('AA', 'x')", [0]),
        ('s == "it\'s"', [1]),
        ("s == 'a`b'", [3]),
        ("a is null", [2]),
        ("a is not None", [0, 1, 3]),
        ("`odd name` >= 3", [2, 3]),
        ('col("odd name") == a', [0, 1, 3]),
        ("t >= '2024-01-03'", [2, 3]),
        ("'2024-01-02' == t", [1]),
        ("t in ('2024-01-01', '2024-01-04')", [0, 3]),
        ("b", [0, 3]),
        ("not b", [1]),
        ("b == true", [0, 3]),
        ("b == False", [1]),
        ("  a == 1\n", [0]),
    ],
)
def test_what_is_understood_means_what_sql_means(where, expected):
    assert rows(where) == expected


@pytest.mark.parametrize(
    ("where", "columns"),
    [("a > 1", ("a",)), ("`odd name` > 1 and s is null", ("s", "odd name"))],
)
def test_the_columns_it_looks_at_are_known(where, columns):
    assert make_filter(where, TABLE.schema).columns == columns


def test_an_arrow_expression_is_taken_as_it_is():
    found = make_filter(pc.field("a") + pc.field("odd name") > 3, TABLE.schema)
    assert found.columns == ("a", "odd name")


@pytest.mark.parametrize(
    "where",
    [
        "", "a =", "a = 1", "a == 1; b", "a + 1 == 2", "f(a)", "__import__('os')", "a.b == 1",
        "a[0] == 1", "lambda: 1", "a == null", "a in (1, null)", "a in ()", "a in s", "a is 1",
        "1", "'x'", "a if b else b", "a == 1j", "a == b'x'", "a > 1 AND b", "[a for a in b]",
        "(a := 1)", "col(a) == 1", "a == {1: 2}", "f'{a}' == s", "(" * 5000, "not " * 50_000 + "b",
        "a\0 == 1", "-" * 3000 + "1 == a",
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_one_sentence(where):
    with pytest.raises(OptionError, match="--where") as caught:
        make_filter(where, TABLE.schema)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("where", ["1 == 1", "'a' < 'b'", pc.scalar(True)])
def test_a_filter_that_names_no_column_is_refused(where):
    with pytest.raises(OptionError, match="--where names no column"):
        make_filter(where, TABLE.schema)


def test_the_refusal_shows_what_is_understood():
    with pytest.raises(OptionError, match=r"'a \+ 1'; a filter is made of column names"):
        make_filter("a + 1 == 2", TABLE.schema)
    with pytest.raises(OptionError, match="names column 'z', but the input has a, x, s"):
        make_filter("z == 2", TABLE.schema)
    with pytest.raises(OptionError, match=r"compares a date32\[day\] with text"):
        make_filter("t > 'yesterday'", TABLE.schema)
    with pytest.raises(OptionError, match="does not fit the columns"):
        make_filter("a", TABLE.schema)

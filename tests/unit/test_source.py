"""Source: every format, one schema, in order."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.unit.source_files import NAMES, TABLE, ids, write
from tritonbulk.errors import InputError, OptionError, SourceError
from tritonbulk.source import open_source


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_segments(tmp_path, name):
    source = open_source([write(TABLE, tmp_path / name)])
    known = name in ("a.parquet", "a.arrow", "a.feather")
    assert source.rows == (25 if known else None)
    assert source.schema == TABLE.schema
    read = list(source.read(10, ["s", "id"]))
    assert [(s.index, s.file_index, s.row_begin, s.rows) for s, _ in read] == [
        (0, 0, 0, 10),
        (1, 0, 10, 10),
        (2, 0, 20, 5),
    ]
    for segment, rows in read:
        expected = TABLE.select(["s", "id"]).slice(segment.row_begin, segment.rows)
        assert pa.Table.from_batches([rows]) == expected
    assert ids(source, 10, 13) == list(range(13))
    assert ids(source, 10, 10) == list(range(10))


def test_the_limit_spans_files_and_opens_no_more_than_it_needs(tmp_path):
    files = [write(TABLE, tmp_path / f"{name}.csv") for name in "abc"]
    source = open_source(files)
    (tmp_path / "c.csv").unlink()
    assert ids(source, 10, 50) == [*range(25), *range(25)]
    with pytest.raises(SourceError, match=r"c\.csv failed"):
        ids(source, 10, 51)


def test_files_without_rows_have_no_segments(tmp_path):
    files = [write(TABLE.slice(0, rows), tmp_path / f"{rows}.parquet") for rows in (0, 3)]
    source = open_source(files)
    assert [(s.index, s.file_index) for s, _ in source.read(10, ["id"])] == [(0, 1)]
    header_only = open_source(
        [write(TABLE.slice(0, rows), tmp_path / f"{rows}.csv") for rows in (0, 3)]
    )
    assert header_only.schema == TABLE.schema, "types come from the first file with rows"
    assert ids(header_only) == [0, 1, 2]


def test_a_damaged_footer_does_not_end_the_process(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"s": ["x", None]}), path, use_dictionary=False)
    content = bytearray(path.read_bytes())
    begin = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    # The schema's column (type 6, repetition, name s) changes its type: statistics fit no more.
    content[content.index(b"\x0c%\x02\x18\x01s", begin)] = 0
    path.write_bytes(content)
    code = (
        "from tritonbulk.errors import TritonbulkError\n"
        "from tritonbulk.source import open_source\n"
        "try:\n"
        f"    list(open_source([{str(path)!r}], where='s is null').read(10, ['s']))\n"
        "except TritonbulkError:\n"
        "    print('refused')\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


def test_files_are_read_with_one_schema(tmp_path):
    narrow = pa.table({"id": pa.array([1, 2], pa.int32()), "f": pa.array([1, 2], pa.float32())})
    wide = pa.table({"f": pa.array([0.1], pa.float64()), "id": pa.array([2**40], pa.int64())})
    files = [write(narrow, tmp_path / "a.parquet"), write(wide, tmp_path / "b.parquet")]
    source = open_source(files)
    assert source.schema == pa.schema({"id": pa.int64(), "f": pa.float64()})
    (_, first), (_, second) = source.read(10, ["id", "f"])
    assert first.schema == second.schema == source.schema
    assert second.to_pydict() == {"id": [2**40], "f": [0.1]}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (pa.table({"id": ["x"], "v": [1.0]}), r"'id' is string in .*b\.parquet but int64 in .*a\."),
        (pa.table({"id": [1]}), r"b\.parquet lacks column 'v', which .*a\.parquet has"),
        (pa.table({"id": [1], "v": [1.0], "w": [1]}), r"b\.parquet has column 'w', which"),
    ],
)
def test_files_that_differ_are_refused_by_file_and_column(tmp_path, other, message):
    table = pa.table({"id": [1], "v": [1.0]})
    files = [write(table, tmp_path / "a.parquet"), write(other, tmp_path / "b.parquet")]
    with pytest.raises(InputError, match=message):
        open_source(files)
    csvs = [write(table, tmp_path / "a.csv"), write(other, tmp_path / "b.csv")]
    with pytest.raises(InputError, match=r"b\.csv"):
        list(open_source(csvs).read(10, ["id", "v"]))


def test_a_restriction_to_columns_forgives_differences_elsewhere(tmp_path):
    files = [
        write(pa.table({"id": [1], "v": [1.0]}), tmp_path / "a.parquet"),
        write(pa.table({"id": [2], "v": ["x"], "w": [0]}), tmp_path / "b.parquet"),
    ]
    source = open_source(files, columns=["i*"])
    assert source.schema.names == ["id"]
    assert ids(source) == [1, 2]
    with pytest.raises(InputError, match="--columns 'z' matches no column"):
        open_source(files, columns=["z"])


def test_folders_named_key_value_become_columns(tmp_path):
    for year, place in ((2023, "a b"), (2024, "__HIVE_DEFAULT_PARTITION__")):
        folder = tmp_path / "data" / f"year={year}" / f"place={place.replace(' ', '%20')}"
        folder.mkdir(parents=True)
        write(TABLE.slice(0, 2), folder / "x.parquet")
    source = open_source([str(tmp_path / "data")])
    assert source.schema.names == ["id", "v", "s", "year", "place"]
    rows = [
        row for _, batch in source.read(10, ["year", "id", "place"]) for row in batch.to_pylist()
    ]
    assert rows == [
        {"year": 2023, "id": 0, "place": "a b"},
        {"year": 2023, "id": 1, "place": "a b"},
        {"year": 2024, "id": 0, "place": None},
        {"year": 2024, "id": 1, "place": None},
    ]
    assert [len(rows) for _, rows in source.read(10, ["year"])] == [2, 2]
    filtered = open_source([str(tmp_path / "data")], where="year > 2023", columns=["id"])
    assert [(s.rows, s.rows_filtered) for s, _ in filtered.read(10, ["id"])] == [(0, 2), (2, 0)]
    (tmp_path / "data" / "stray.parquet").write_bytes(
        (tmp_path / "data/year=2023/place=a%20b/x.parquet").read_bytes()
    )
    with pytest.raises(InputError, match=r"under partition keys none|under none|keys year, place"):
        open_source([str(tmp_path / "data")])


def test_a_partition_key_that_is_also_a_column_is_refused(tmp_path):
    (tmp_path / "id=1").mkdir()
    write(TABLE, tmp_path / "id=1" / "x.parquet")
    with pytest.raises(InputError, match="has column 'id' and stands in a folder id="):
        open_source([str(tmp_path)])


@pytest.mark.parametrize("where", ["v >= 2.5 and id != 20", (pc.field("v") >= 2.5) & (pc.field("id") != 20)])  # fmt: skip  # noqa: E501
def test_a_filter_applies_after_the_cut(tmp_path, where):
    source = open_source([write(TABLE, tmp_path / "a.jsonl")], columns=["id"], where=where)
    assert source.schema.names == ["id"]
    read = [(s.row_begin, s.rows, s.rows_filtered, b["id"].to_pylist()) for s, b in source.read(10, ["id"])]  # fmt: skip  # noqa: E501
    assert read == [
        (0, 0, 10, []),
        (10, 10, 0, list(range(10, 20))),
        (20, 4, 1, [21, 22, 23, 24]),
    ]
    assert ids(source, 10, 13) == [10, 11, 12], "the limit counts unfiltered rows"


def test_of_a_row_group_in_which_no_row_passes_only_the_filters_columns_are_read(tmp_path):
    path = tmp_path / "a.parquet"
    noise = np.random.default_rng(0).bytes(60_000)
    texts = [noise[at : at + 600].hex() for at in range(0, 60_000, 600)]
    table = pa.table({"id": range(100), "s": texts, "k": [None] * 100})
    pq.write_table(table, path, row_group_size=20, use_dictionary=False, compression="none")
    where = "id in (25, 26) or id >= 95 and k is null"
    source = open_source([str(path)], where=where)

    def read():
        return [
            (s.row_begin, s.rows + s.rows_filtered, rows["id"].to_pylist(), rows["s"].to_pylist())
            for s, rows in source.read(30, ["s", "id"])
        ]

    found = read()
    assert [row for _, _, rows, _ in found for row in rows] == [25, 26, *range(95, 100)]
    assert [begin for begin, _, _, _ in found] == [0, 30, 60, 90]
    assert [rows for _, rows, _, _ in found] == [30, 30, 30, 10]
    assert [text for _, _, _, texts in found for text in texts] == texts[25:27] + texts[95:]
    content = path.read_bytes()
    for row in (*range(20), *range(40, 80)):
        content = content.replace(texts[row].encode(), b"\xff" * len(texts[row]))
    path.write_bytes(content)
    assert read() == found, "what was damaged was not looked at"
    assert ids(source, 30, 50) == [25, 26], "the limit counts rows that were not read"
    path.write_bytes(content.replace(texts[25].encode(), b"\xff" * len(texts[25])))
    with pytest.raises(InputError, match=r"a\.parquet .*column 's', rows 20 to 39 .*UTF8"):
        read()


def test_folders_that_a_filter_leaves_out_are_not_read(tmp_path):
    for year in (2023, 2024):
        (tmp_path / f"year={year}").mkdir()
        write(TABLE, tmp_path / f"year={year}" / "x.parquet")
    source = open_source([str(tmp_path)], where="year > 2023")
    path = tmp_path / "year=2023" / "x.parquet"
    footer = path.read_bytes()[-8:-4]
    kept = int.from_bytes(footer, "little") + 8
    path.write_bytes(b"\xff" * (path.stat().st_size - kept) + path.read_bytes()[-kept:])
    assert [(s.rows, s.rows_filtered) for s, _ in source.read(25, ["id"])] == [(0, 25), (25, 0)]


FILTERS = [
    "id in (3, 17)", "year == 2024", "year < 2000", "year is not null", "place == 'a b'",
    "place is null", "year == 2023 and id > 20", "year > 2023 or s == 'näme 4'",
    (pc.field("year") + pc.field("id")) > 2045,
]  # fmt: skip


@pytest.mark.parametrize("where", FILTERS)
@pytest.mark.parametrize("limit", [None, 1, 13, 40])
def test_a_glance_changes_nothing_but_what_is_read(tmp_path, where, limit):
    found = []
    # Arrow files are read without a glance.
    for extension in ("parquet", "arrow"):
        for folder in ("year=2023/place=a%20b", "year=2024/place=__HIVE_DEFAULT_PARTITION__"):
            (tmp_path / extension / folder).mkdir(parents=True)
            write(TABLE, tmp_path / extension / folder / f"x.{extension}")
        source = open_source([str(tmp_path / extension)], where=where)
        for columns in (["s", "id"], ["v"], ["year"]):
            read = source.read(10, columns, limit)
            found.append([(segment, rows.to_pylist()) for segment, rows in read])
    assert found[:3] == found[3:]


def test_a_glance_goes_no_further_than_the_limit(tmp_path):
    path = tmp_path / "a.parquet"
    rows = 100_000
    noise = np.random.default_rng(0).permutation(rows)
    pq.write_table(
        pa.table({"n": noise, "id": np.arange(rows)}), path, use_dictionary=False,
        compression="none", data_page_size=8192,
    )  # fmt: skip
    source = open_source([str(path)], where="n is null")
    content = path.read_bytes()
    path.write_bytes(content[:400_000] + b"\xff" * 100_000 + content[500_000:])
    for segment_rows in (5, 1000):
        read = list(source.read(segment_rows, ["id"], 10))
        assert sum(segment.rows_filtered for segment, _ in read) == 10
    with pytest.raises((InputError, SourceError), match=r"a\.parquet"):
        list(source.read(1000, ["id"]))


def test_a_filter_that_does_not_fit_is_refused_at_once(tmp_path):
    files = [write(TABLE, tmp_path / "a.parquet")]
    with pytest.raises(OptionError, match="names column 'z', but the input has id, v, s"):
        open_source(files, where="z > 1")
    with pytest.raises(OptionError, match=r"does not fit the columns \(No match"):
        open_source(files, where=pc.field("z") > 1)
    with pytest.raises(OptionError, match=r"does not fit the columns \(Function 'greater'"):
        open_source(files, where="s > 1")


def test_row_sizes_come_from_types_and_metadata(tmp_path):
    table = pa.table(
        {
            "i": pa.array(range(100), pa.int32()),
            "t": ["x" * 1000 + str(i) for i in range(100)],
            "l": pa.array([[1.0] * 50] * 100, pa.list_(pa.float64())),
            "e": pa.array([[0.5] * 8] * 100, pa.list_(pa.float32(), 8)),
        }
    )
    for name in ("a.parquet", "a.arrow", "a.arrows"):
        source = open_source([write(table, tmp_path / name)])
        assert source.row_bytes(["i"]) == 4
        assert source.row_bytes(["i", "e"]) == 36
        assert 1000 <= source.row_bytes(["t"]) <= 1100
        assert 400 <= source.row_bytes(["l"]) <= 420, "a dictionary hides none of it"
    text = open_source([write(table.select(["i", "t"]), tmp_path / "a.csv")])
    assert 1000 <= text.row_bytes(["t"]) <= 1100


def test_odd_column_names_are_only_names(tmp_path):
    names = ["a.b", "a", "", "x\ny", "nul\0", "ü", "`"]
    table = pa.table([[index] for index in range(len(names))], names=names)
    for path in (tmp_path / "a.parquet", tmp_path / "a.arrow"):
        source = open_source([write(table, path)])
        for index, name in enumerate(names):
            ((_, rows),) = source.read(10, [name])
            assert rows.to_pydict() == {name: [index]}


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path):
    name = write(TABLE.slice(0, 20), tmp_path / "a.parquet")
    source = open_source([name])
    write(TABLE.slice(0, 15), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="ends at row 15, but had more rows"):
        list(source.read(10, ["id"]))
    write(TABLE, tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="ends at row 25, but had fewer rows"):
        list(source.read(10, ["id"]))

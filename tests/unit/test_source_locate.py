"""Locate: files, folders, patterns and URIs, in one order, each with its name for errors."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tritonbulk.errors import InputError, PlatformError
from tritonbulk.source import open_source
from tritonbulk.source.locate import locate

TREE = [
    "b.parquet", "a.parquet", "_hidden.parquet", ".hidden.parquet", "sub/c.parquet",
    "sub/deep/d.parquet", "_tritonbulk/tmp/e.parquet", "k=1/f.parquet", "odd[1].parquet",
]  # fmt: skip


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in TREE:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"x": [1]}), tmp_path / "in" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*inputs, asked=None):
    return [file.name for file in locate(inputs, asked)]


def test_a_folder_stands_for_its_visible_files_sorted(tree):
    found = ["a", "b", "k=1/f", "odd[1]", "sub/c", "sub/deep/d"]
    assert names("in") == names("in/") == [f"in/{name}.parquet" for name in found]
    assert names(f"{tree}/in")[0] == f"{tree}/in/a.parquet"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("in/*.parquet", ["a", "b", "odd[1]"]),
        ("in/?.parquet", ["a", "b"]),
        ("in/[b-z].parquet", ["b"]),
        ("in/*/*.parquet", ["k=1/f", "sub/c"]),
        ("in/s*", ["sub/c", "sub/deep/d"]),
        ("in/**/d.parquet", ["sub/deep/d"]),
        ("in/**", ["a", "b", "k=1/f", "odd[1]", "sub/c", "sub/deep/d"]),
        ("*/sub/**/*.parquet", ["sub/c", "sub/deep/d"]),
        ("in/_*.parquet", ["_hidden"]),
        ("in/odd[1].parquet", ["odd[1]"]),
    ],
)
def test_a_pattern_stands_for_what_it_matches_sorted(tree, pattern, found):
    assert [name.removeprefix("./") for name in names(pattern)] == [
        f"in/{name}.parquet" for name in found
    ]


def test_arguments_keep_their_order(tree):
    assert names("in/b.parquet", "in/a.parquet") == ["in/b.parquet", "in/a.parquet"]
    assert names("in/_hidden.parquet") == ["in/_hidden.parquet"], "named is wanted"


def test_keys_stand_only_between_what_was_named_and_the_file(tree):
    assert [file.keys for file in locate(["in/k*"], None)] == [(("k", "1"),)]
    assert [file.keys for file in locate(["in/k=1"], None)] == [()]
    assert [file.keys for file in locate(["in/k=1/f.parquet"], None)] == [()]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("in/none.parquet", "in/none.parquet does not exist"),
        ("in/*.none", r"in/\*\.none matches no file"),
        ("none/*.csv", r"none/\*\.csv matches no file"),
        ("empty", "empty holds no file"),
        ("in\nput", r"in\\nput does not exist"),
    ],
)
def test_an_input_without_files_is_named(tree, name, message):
    (tree / "empty").mkdir()
    (tree / "empty" / "_SUCCESS").write_text("")
    with pytest.raises(InputError, match=message):
        names(name)


def test_the_format_is_told_by_extension_or_by_the_user(tree):
    for name, shape, compression in (
        ("a.CSV.GZ", "csv", "gzip"),
        ("b.snappy.parquet", "parquet", None),
        ("c.ndjson.zst", "jsonl", "zstd"),
        ("d.feather", "arrow", None),
    ):
        (tree / name).write_bytes(b"")
        (file,) = locate([name], None)
        assert (file.format, file.compression) == (shape, compression)
    (tree / "data.gz").write_bytes(b"")
    (file,) = locate(["data.gz"], "jsonl")
    assert (file.format, file.compression) == ("jsonl", "gzip")
    with pytest.raises(InputError, match=r"nothing tells the format of data\.gz; name it with"):
        names("data.gz")
    with pytest.raises(InputError, match=r"d\.feather is arrow, but .*a\.parquet is parquet"):
        names("in/a.parquet", "d.feather")


def test_a_uri_is_read_through_pyarrow(tree):
    base = (tree / "in").as_uri()
    assert names(f"{base}/a.parquet") == [f"{base}/a.parquet"]
    assert names(f"{base}/?.parquet".replace("?", "[ab]")) == [
        f"{base}/a.parquet",
        f"{base}/b.parquet",
    ]
    assert len(names(base)) == 6
    source = open_source([f"{base}/*.parquet"])
    assert source.rows == 3
    assert sum(len(rows) for _, rows in source.read(10, ["x"])) == 3
    with pytest.raises(InputError, match=r"file://.*none\.parquet does not exist"):
        names(f"{base}/none.parquet")


def test_credentials_in_a_uri_are_never_shown():
    with pytest.raises((InputError, PlatformError)) as caught:
        names("gopher://user:hunter2@host/a.parquet?token=hunter2")
    assert "gopher://host/a.parquet" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_scheme_that_only_fsspec_knows_asks_for_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(PlatformError, match="needs the package fsspec"):
        names("memory://a.parquet")


def test_a_uri_is_read_through_fsspec_where_pyarrow_knows_none():
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for name in ("a", "b", "_c"):
        with memory.open(f"/in/k=7/{name}.parquet", "wb") as file:
            pq.write_table(pa.table({"x": [1, 2]}), file)
    source = open_source(["memory://in/*"])
    assert [file.name for file in source.files] == [
        "memory://in/k=7/a.parquet",
        "memory://in/k=7/b.parquet",
    ]
    assert [b.to_pydict() for _, b in source.read(9, ["x", "k"])] == [
        {"x": [1, 2], "k": [7, 7]}
    ] * 2


def test_where_output_is_written_needs_no_package_of_its_scheme(tree):
    (found,) = locate(["in/a.parquet"], None, ["az://user@container/scored"])
    assert found.name == "in/a.parquet"

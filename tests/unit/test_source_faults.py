"""What cannot be read is one sentence, or an error that names file, row and column."""

import gzip
import json
import random

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.source_files import TABLE, ids, read_all, write
from tritonbulk.errors import InputError, SourceError
from tritonbulk.source import open_source

BROKEN = [
    ("a.parquet", b"hello", "cannot be read as Parquet"),
    ("a.parquet", b"", "cannot be read as Parquet"),
    ("a.parquet", b"PAR1" + b"\xff" * 100 + b"PAR1", "cannot be read as Parquet"),
    ("a.parquet.gz", gzip.compress(b"PAR1", mtime=0), "Parquet inside gzip"),
    ("a.csv", b"", "Empty CSV file"),
    ("a.csv", b"a,a\n1,2\n", "two columns named 'a'"),
    ("a.csv", b"\0\0\0\0", r"a\.csv"),
    ("a.csv", b"a,b\n1,2\n1,2,3\n", "row 3 .* has 3 values where the header has 2"),
    ("a.csv", b'a,b\n1,x\n2,"open\n3,4\n4,c\n', "a quote in row 3 .* is never closed"),
    ("a.csv", b'a,b\n1,2\n3,"4\n5,6\n', "a quote in row 3 .* is never closed"),
    ("a.csv", b'a,b,c\n1,2,3\n4,"5\n6,7,8\n', "a quote in row 3 .* is never closed"),
    ("a.csv", b'a\n1\n"2\n3', "a quote in row 3 .* is never closed"),
    ("a.csv", b"a,b\n" + b"1,x\n" * 2**19 + b'1,"x\n1,x\n', "row 524290 .* is never closed"),
    ("a.csv", b"a,b\n1," + b"x" * 2**21 + b"\n", "a row is longer than 1 MiB"),
    ("a.csv", b"a,\xff\n1,2\n", "cannot be read as CSV"),
    ("a.csv", b"a,b\n1,\xff\n", "'b', row 2 .*UTF8"),
    ("a.csv", "a,b\n1,2\n".encode("utf-16"), r"a\.csv"),
    ("a.csv.gz", b"not gzip", r"a\.csv\.gz cannot be read as CSV"),
    ("a.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 9999, mtime=0)[:60], r"a\.csv\.gz"),
    ("a.jsonl", b"", r"a\.jsonl is empty"),
    ("a.jsonl", b"\n \n", r"a\.jsonl is empty"),
    ("a.jsonl", b'[{"a": 1}]', r"a\.jsonl, at row 0"),
    ("a.jsonl", b'{"a": 1}\n{"a":', r"a\.jsonl, at row 1"),
    ("a.jsonl", b'{"a": 1, "a": 2}\n', r"specified twice"),
    ("a.jsonl", b'{"a": "\xff"}\n', r"a\.jsonl, .*UTF8"),
    ("a.jsonl", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nested more than 500 levels"),
    ("a.jsonl", b'{"a":' + b'["]",' * 90_000 + b"]" * 90_000 + b"}\n", "nested more than 500"),
    (
        "a.jsonl",
        b'{"a":' + b'["\\"]\\"",' * 90_000 + b"]" * 90_000 + b"}\n",
        "nested more than 500",
    ),
    ("a.arrow", b"hello", "cannot be read as Arrow IPC"),
    ("a.arrow", b"", "cannot be read as Arrow IPC"),
    ("a.arrow", b"FEA1" + b"\0" * 100, "Feather version 1"),
    ("a.arrow", b"ARROW1\0\0" + b"\0" * 50, "cannot be read as Arrow IPC"),
    ("a.arrow.gz", gzip.compress(b"ARROW1\0\0", mtime=0), "Arrow file inside gzip"),
]


def test_quotes_that_open_nothing_are_no_fault(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'\n\na,b\n1,x"y\n2,"x""y"\n3,"x\ny"\n4,""')
    ((_, rows),) = read_all(tmp_path / "a.csv")
    assert rows["b"].to_pylist() == ['x"y', 'x"y', "x\ny", ""]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"a,b\n1,2\n1,canary,3\n"),
        ("a.csv", b"a,b\n" + b"1,2\n" * 2**19 + b"1,canary\n"),
        ("a.jsonl", b'{"a": 1}\n{"a": "canary"}\n'),
    ],
)
@pytest.mark.parametrize("untrusted", [False, True])
def test_a_log_quotes_no_value(tmp_path, name, content, untrusted):
    (tmp_path / name).write_bytes(content)

    def read():
        source = open_source([str(tmp_path / name)], is_untrusted=untrusted)
        return list(source.read(2**20, source.schema.names))

    with pytest.raises(InputError) as caught:
        read()
    error = caught.value
    assert error.quotes_data
    assert name in error.log_text
    assert "canary" not in error.log_text


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_what_cannot_be_read_is_one_sentence_that_names_the_file(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_all(tmp_path / name)
    assert name in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.arrows"])
def test_a_file_that_is_cut_off_or_damaged_is_an_error_or_the_very_rows(tmp_path, name):
    write(TABLE, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for end in range(0, len(whole) - 8, 97):
        (tmp_path / name).write_bytes(whole[:end])
        with pytest.raises((InputError, SourceError), match=name):
            ids(open_source([str(tmp_path / name)]))


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl", "a.arrow", "a.arrows"])
def test_a_damaged_file_is_an_error_that_names_it_or_is_read(tmp_path, name):
    path = tmp_path / name
    write(TABLE, path)
    whole = path.read_bytes()
    complaints = []
    for seed in range(300):
        chance = random.Random(seed)
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 5])):
            damaged[chance.randrange(len(damaged))] = chance.choice([0, 255, chance.randrange(256)])
        path.write_bytes(damaged)
        try:
            read_all(path)
        except (InputError, SourceError) as error:
            complaints.append(str(error))
    assert 0 < len(complaints) < 300
    assert [text for text in complaints if name not in text or not text.isprintable()] == []


def test_values_that_do_not_fit_the_first_types_name_file_row_and_column(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "b.csv").write_text("b,a\n1,2\n3,x\n")
    source = open_source([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")])
    with pytest.raises(InputError, match=r"b\.csv .*column 'a', row 3 .*invalid value 'x'"):
        list(source.read(10, ["a"]))
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "b.jsonl").write_text('{"a": 1}\n{"b": 2, "c": 4}\n{"a": "x"}\n')
    source = open_source([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")])
    with pytest.raises(InputError, match=r"b\.jsonl, at row 2 .*changed from number to string"):
        list(source.read(10, ["a"]))


def test_json_rows_are_counted_over_blocks_and_lines_may_be_longer_than_one(tmp_path, monkeypatch):
    monkeypatch.setattr("tritonbulk.source.jsonl.BLOCK_BYTES", 40)
    lines = [json.dumps({"id": i, "s": "x" * (i * 7)}) for i in range(30)]
    (tmp_path / "a.jsonl").write_text("\r\n".join(lines) + "\n\n")
    source = open_source([str(tmp_path / "a.jsonl")])
    assert ids(source) == list(range(30))
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, '{"id": "y"}']))
    with pytest.raises(InputError, match="at row 30"):
        ids(source)
    monkeypatch.setattr("tritonbulk.source.jsonl.LINE_BYTES_MAX", 200)
    with pytest.raises(InputError, match="a line of more than"):
        ids(source)


def test_a_byte_order_mark_and_nul_in_text_are_no_obstacle(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfid,s\n1,"x\0y"\n2,"line\nend"\n')
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbfid,s\n3,z\n")
    source = open_source([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")])
    rows = [row for _, b in source.read(9, ["id", "s"]) for row in b.to_pylist()]
    assert rows == [{"id": 1, "s": "x\0y"}, {"id": 2, "s": "line\nend"}, {"id": 3, "s": "z"}]
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"id": 1}\n')
    assert ids(open_source([str(tmp_path / "a.jsonl")])) == [1]


def test_offsets_in_an_arrow_file_are_not_taken_on_trust(tmp_path):
    path = tmp_path / "a.arrow"
    write(pa.table({"id": ["hello", "world"]}), path)
    good, bad = (np.array([0, 5, end], np.int32).tobytes() for end in (10, 1_000_000))
    assert good in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(good, bad))
    with pytest.raises(InputError, match=r"a\.arrow"):
        ids(open_source([str(tmp_path / "a.arrow")]))


@pytest.mark.parametrize("name", ["a.arrow", "a.arrows"])
def test_text_in_an_arrow_file_is_not_taken_on_trust(tmp_path, name):
    write(pa.table({"id": ["hello", "world"]}), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content.replace(b"world", b"wor\xffd"))
    with pytest.raises(InputError, match="Invalid UTF8"):
        read_all(tmp_path / name)

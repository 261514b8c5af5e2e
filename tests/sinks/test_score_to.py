"""``score --to``: published after the manifest, by the same command and by `publish`."""

import duckdb
import pytest

import tritonbulk
from tests.crash import jobs
from tests.sinks.jobs import score as finish
from tritonbulk.cli.main import command
from tritonbulk.errors import OptionError, OutputError
from tritonbulk.job.stores.local import LocalStore
from tritonbulk.sinks.opening import open_sink
from tritonbulk.sinks.publish import publish


@pytest.mark.live
def test_a_run_publishes_and_a_second_one_adds_nothing(triton, tmp_path):
    rows = jobs.write_rows(tmp_path / "rows.parquet")
    for _ in range(2):
        tritonbulk.score(
            rows,
            model="wide",
            out=tmp_path / "out",
            endpoints=[triton.grpc],
            input_map="x=a,b,c,d",
            segment_rows=jobs.SEGMENT_ROWS,
            to=f"duckdb:{tmp_path}/rows.duckdb",
            table="y",
        )
    with duckdb.connect(str(tmp_path / "rows.duckdb")) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT id) FROM y").fetchall() == [
            (jobs.ROWS, jobs.ROWS)
        ]


@pytest.mark.live
@pytest.mark.parametrize("form", [{}, {"vectors": "binary"}, {"out_format": "arrow"}])
def test_a_table_that_does_not_fit_is_refused_before_the_first_row(triton, tmp_path, form):
    rows = jobs.write_rows(tmp_path / "rows.parquet")
    with duckdb.connect(str(tmp_path / "rows.duckdb")) as connection:
        connection.execute("CREATE TABLE t (id BIGINT)")

    def score():
        return tritonbulk.score(
            rows,
            model="wide",
            out=tmp_path / "out",
            endpoints=[triton.grpc],
            input_map="x=a,b,c,d",
            to=f"duckdb:{tmp_path}/rows.duckdb",
            table="t",
            **form,
        )

    with pytest.raises(OutputError, match="give another --table"):
        score()
    assert not [*tmp_path.glob("out/part-*")]
    with duckdb.connect(str(tmp_path / "rows.duckdb")) as connection:
        connection.execute("DROP TABLE t")
    score()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "mysql://host/db"), "mysql… is no sink"),
        (("--to", "duckdb:file"), "needs --table"),
        (("--to", "duckdb:file", "--table", "t", "--in-place"), "--in-place is for"),
        (("--to", "delta:folder", "--table", "t"), "has no meaning with delta"),
    ],
)
def test_what_is_no_sink_is_refused(words, said, tmp_path):
    with pytest.raises(OptionError, match=said):
        command.main(["publish", str(tmp_path), *words], standalone_mode=False)


def test_a_table_of_duckdb_is_one_however_it_is_spelled(tmp_path):
    out = finish(tmp_path, limit_rows=250)
    for name in ("Tablé", "main.tablé", "MAIN.TABLé"):
        publish(LocalStore(out), open_sink(f"duckdb:{tmp_path}/d.duckdb", name))
    # Only ASCII letters are the same in both cases.
    publish(LocalStore(out), open_sink(f"duckdb:{tmp_path}/d.duckdb", "tablÉ"))
    with duckdb.connect(str(tmp_path / "d.duckdb")) as connection:
        for name in ("tablé", "tablÉ"):
            assert connection.sql(f'SELECT count(*) FROM "{name}"').fetchall() == [(250,)], name


def test_the_command_tells_what_it_did(tmp_path, capsys):
    out = finish(tmp_path, limit_rows=250)
    words = ["publish", str(out), "--to", f"duckdb:{tmp_path}/d.duckdb", "--table", "t"]
    assert command.main([*words, "--json"], standalone_mode=False) == 0
    told, as_json = capsys.readouterr().out.splitlines()
    assert told.startswith("250 rows of 3 parts published to ")
    assert '"rows": 250, "parts": 3, "rows_before": 0' in as_json
    command.main(words, standalone_mode=False)
    assert "0 rows of 0 parts published" in capsys.readouterr().out

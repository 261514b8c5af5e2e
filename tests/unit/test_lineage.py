"""What period rows are about, and how old inputs may be."""

import json
import os
import time

import pytest

from tests.unit.test_shards import asked, write
from tritonbulk.errors import OptionError, OutputError, StaleError
from tritonbulk.lineage import check_fresh, parse_interval

HOUR_NS = 3_600 * 10**9


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-11-30/2026-12-01", ("2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z")),
        (
            "2026-11-30T01:00:00+01:00/2026-11-30T06:30:00Z",
            ("2026-11-30T00:00:00Z", "2026-11-30T06:30:00Z"),
        ),
    ],
)
def test_one_interval_has_one_text(text, found):
    assert parse_interval(text).to_plain() == found


@pytest.mark.parametrize(
    "text", ["", "2026-11-30", "2026-11-30/", "2026-12-01/2026-11-30", "a/b",
             "2026-11-30T00:00:00/2026-12-01T00:00:00", "2026-11-30/2026-11-30"]
)  # fmt: skip
def test_what_is_no_interval_is_refused(text):
    with pytest.raises(OptionError, match="give FROM/TO"):
        parse_interval(text)


def test_stale_inputs_are_named_and_fresh_ones_are_not():
    now = 1_000_000 * HOUR_NS
    check_fresh(["a"], [now - HOUR_NS], now, 3_600)
    with pytest.raises(StaleError, match=r"\(1 h\): b \(2 h old\); renew") as caught:
        check_fresh(["a", "b"], [now, now - 2 * HOUR_NS], now, 3_600)
    assert caught.value.retry_helps
    with pytest.raises(StaleError, match="does not tell when"):
        check_fresh(["a"], [0], now, 3_600)
    with pytest.raises(StaleError, match=r"b4 .* and 2 more"):
        check_fresh([f"b{n}" for n in range(7)], [1] * 7, now, 3_600)


def test_the_interval_is_part_of_the_job_and_stands_in_its_manifest(program, tmp_path):
    path, out = write(tmp_path / "rows.parquet", 200), tmp_path / "out"
    november = parse_interval("2026-11-30/2026-12-01")
    program.run(asked(path, out=out, data_interval=november))
    manifest = json.loads((out / "_tritonbulk" / "manifest.json").read_text())
    assert manifest["data_interval"] == ["2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z"]
    assert {"name", "version", "digest", "config_digest", "files_digest"} == set(manifest["model"])
    assert manifest["release"]
    with pytest.raises(OutputError, match="data_interval"):
        program.run(asked(path, out=out))


def test_an_increment_has_an_interval_of_its_own(program, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name, text in (("a", "2026-11-29/2026-11-30"), ("b", "2026-11-30/2026-12-01")):
        write(folder / f"{name}.parquet", 100)
        program.run(asked(folder, out=out, only_new=True, data_interval=parse_interval(text)))
    second = json.loads((out / "_tritonbulk" / "manifest-0001.json").read_text())
    assert second["data_interval"][0] == "2026-11-30T00:00:00Z"


@pytest.mark.live
def test_a_stale_file_stops_a_run_before_its_first_row(triton, tmp_path):
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    import tritonbulk  # noqa: PLC0415

    path, out = tmp_path / "rows.parquet", tmp_path / "out"
    pq.write_table(pa.table({name: pa.array([1.0], pa.float32()) for name in "abcd"}), path)
    old = time.time() - 7_200
    os.utime(path, (old, old))
    given = {
        "model": "double", "out": out, "endpoints": [triton.grpc], "input_map": {"x": list("abcd")}
    }  # fmt: skip
    with pytest.raises(StaleError, match=r"rows\.parquet"):
        tritonbulk.score(path, **given, max_age_s=3_600)
    assert not list(out.rglob("*.json"))
    assert tritonbulk.score(path, **given, max_age_s=10_800).rows_ok == 1
    # What was begun on fresh inputs is gone on with, however long that takes.
    (out / "_tritonbulk" / "manifest.json").unlink()
    assert tritonbulk.score(path, **given, max_age_s=3_600).job_rows == 1

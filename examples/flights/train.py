"""Train "arrives more than 15 minutes late" and export it as the entry ``flight_delay``.

    python examples/flights/train.py            trains, saves flight_delay.lgb.txt, exports
    python examples/flights/train.py --no-train exports the saved model

The model knows what is known when the aeroplane pushes back: schedule, route, carrier and the
departure delay. It learns from January to August and is judged on September to December, as it
would be used. Flights without an arrival (cancelled, diverted) teach nothing but are scored.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import tritonbulk_export

DATA = Path("data/flights.parquet")
HELD_OUT = Path("data/flights_held_out.parquet")
MODEL = Path(__file__).with_name("flight_delay.lgb.txt")
LATE_MINUTES = 15
LAST_TRAINING_MONTH = 8

NUMBERS = (
    *("dep_delay", "distance", "day_of_week"),
    *("sched_dep_minute", "sched_arr_minute", "sched_block_minutes"),
)
CATEGORIES = ("carrier", "origin", "dest")

PARAMETERS = {
    "objective": "binary",
    "num_leaves": 31,
    "learning_rate": 0.1,
    "min_data_in_leaf": 100,
    # One category against the rest at each split: a set would become a long chain in ONNX.
    "max_cat_to_onehot": 1024,
    "seed": 7,
    # Sums in a fixed order, so that everybody who trains gets the same model.
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
ROUNDS = 150


def features(flights: pa.Table, categories: dict[str, list[str]]) -> np.ndarray:
    """Return ``[rows, features]`` float64: numbers, then category codes; NaN for nulls."""
    columns = [flights[name].cast(pa.float64()) for name in NUMBERS]
    for name in CATEGORIES:
        codes = pc.index_in(flights[name], value_set=pa.array(categories[name]))
        columns.append(codes.cast(pa.float64()))
    return np.column_stack([column.to_numpy() for column in columns])


def train(flights: pa.Table) -> lightgbm.Booster:
    """Return the model trained on the flights up to August that arrived."""
    taught = flights.filter(
        (pc.field("month") <= LAST_TRAINING_MONTH) & pc.field("arr_delay").is_valid()
    )
    categories = {name: sorted(pc.unique(taught[name]).to_pylist()) for name in CATEGORIES}
    data = lightgbm.Dataset(
        features(taught, categories),
        pc.greater(taught["arr_delay"], LATE_MINUTES).to_numpy().astype(np.float64),
        feature_name=[*NUMBERS, *CATEGORIES],
        categorical_feature=list(CATEGORIES),
        params=PARAMETERS,
    )
    booster = lightgbm.train(PARAMETERS, data, num_boost_round=ROUNDS)
    # LightGBM writes these into the model file, as it does for a DataFrame's categorical columns:
    # whoever loads the file, export included, codes the text as it was coded here.
    booster.pandas_categorical = [categories[name] for name in CATEGORIES]
    return booster


def area_under_curve(scores: np.ndarray, is_late: np.ndarray) -> float:
    """Return the probability that a late flight scores above a punctual one (ROC AUC)."""
    _, ranks, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    late = int(is_late.sum())
    rank_sum = mean_rank[ranks][is_late].sum()
    return float((rank_sum - late * (late + 1) / 2) / (late * (len(is_late) - late)))


def report(booster: lightgbm.Booster, held_out: pa.Table) -> None:
    """Print how well the model ranks flights that it has not seen."""
    arrived = held_out.filter(pc.field("arr_delay").is_valid())
    categories = dict(zip(CATEGORIES, booster.pandas_categorical or [], strict=True))
    scores = np.asarray(booster.predict(features(arrived, categories)))
    is_late = pc.greater(arrived["arr_delay"], LATE_MINUTES).to_numpy()
    auc = area_under_curve(scores, is_late)
    print(f"AUC {auc:.4f} on {len(is_late):,} flights of September to December")


def main() -> None:
    """Train unless told not to, export, and print the figures."""
    if not DATA.exists():
        sys.exit(f"{DATA} does not exist; run `python examples/flights/data.py` first")
    flights = pq.read_table(DATA)
    held_out = flights.filter(pc.field("month") > LAST_TRAINING_MONTH)
    pq.write_table(held_out, HELD_OUT, compression="zstd")
    if "--no-train" not in sys.argv[1:]:
        start = time.perf_counter()
        train(flights).save_model(MODEL)
        print(f"trained {ROUNDS} trees in {time.perf_counter() - start:.1f} s: {MODEL.name}")
    report(lightgbm.Booster(model_file=MODEL), held_out)
    exported = tritonbulk_export.export_lightgbm(MODEL, name="flight_delay", sample=HELD_OUT)
    figures = exported.parity.outputs["probabilities"]
    print(
        f"{exported.entry} version {exported.version}: {exported.parity.rows:,} rows compared with "
        f"LightGBM, largest difference {figures.max_abs:.1e}"
        + ("" if exported.published else " (was there already)")
    )


if __name__ == "__main__":
    main()

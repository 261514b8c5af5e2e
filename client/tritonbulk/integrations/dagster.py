"""Dagster: a factory of assets, one job a partition.

flights = scored_asset("scored_flights", inputs="lake/{partition}/", model="flight_delay",
out="scored/{partition}", partitions_def=days, options={"endpoint": "triton:8001"})
"""

# Without `from __future__ import annotations`: Dagster looks at the annotations of functions.
from collections.abc import Mapping, Sequence
from typing import Any

import dagster

from tritonbulk.integrations.command import RunError, ScoreCommand, run

_SHOWN = ("job", "job_rows", "job_rows_failed", "model_version", "rows_scored", "rows_per_second")


def scored_asset(
    name: str,
    *,
    inputs: str | Sequence[str],
    model: str,
    out: str,
    options: Mapping[str, Any] | None = None,
    **asset: Any,
) -> dagster.AssetsDefinition:
    """Return an asset that is the output of one scoring job, or of one job a partition.

    A retry, and a backfill of a partition that was begun, go on where the last run ended.

    Args:
        name: of the asset.
        inputs: file, folder, pattern or URI, or several; ``{partition}`` stands for the partition's
            key.
        model: its name.
        out: output folder or URI, with ``{partition}`` where there are partitions.
        options: more of ``tritonbulk score``, see `ScoreCommand.options`.
        asset: what ``dagster.asset`` takes besides: ``partitions_def``, ``deps``, ``retry_policy``…
    """
    given = [inputs] if isinstance(inputs, str) else list(inputs)

    @dagster.asset(name=name, kinds={"triton"}, **asset)
    def scored(context: dagster.AssetExecutionContext) -> dagster.MaterializeResult:
        key = context.partition_key if context.has_partition_key else ""
        places = [each.format(partition=key) for each in given]
        command = ScoreCommand(places, model, out.format(partition=key), options or {})
        try:
            result = run(command)
        except RunError as error:
            raise dagster.Failure(str(error), allow_retries=error.retry_helps) from error
        metadata = {"manifest": command.manifest} | {name: result[name] for name in _SHOWN}
        return dagster.MaterializeResult(metadata=metadata, data_version=_version(result))

    return scored


def _version(result: Mapping[str, Any]) -> dagster.DataVersion:
    """Return the job's fingerprint: the same inputs, model and options make the same rows."""
    return dagster.DataVersion(str(result["job"]))

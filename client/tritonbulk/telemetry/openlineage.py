"""Lineage events of a run by OpenLineage, sent where its own environment variables say.

START before the first row, then COMPLETE, FAIL or ABORT (asked to stop). COMPLETE names what the
manifest names: inputs with their states and rows, the model with its digests, the output.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from tritonbulk.errors import OptionError, PlatformError, StoppedError, TritonbulkError
from tritonbulk.job.commit import look
from tritonbulk.job.statement import part_number
from tritonbulk.job.stores.base import Store
from tritonbulk.job.stores.opening import open_store
from tritonbulk.options import ScoreOptions
from tritonbulk.redaction import redact
from tritonbulk.result import ScoreResult

try:
    import attr
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent
    from openlineage.client.event_v2 import RunState as State
    from openlineage.client.facet_v2 import (
        RunFacet,
        dataset_version_dataset,
        error_message_run,
        input_statistics_input_dataset,
        nominal_time_run,
        output_statistics_output_dataset,
        parent_run,
        processing_engine_run,
        schema_dataset,
    )
    from openlineage.client.uuid import generate_new_uuid
except ImportError:
    raise PlatformError(
        "--openlineage needs the package openlineage-python; pip install 'tritonbulk[openlineage]'"
    ) from None

PRODUCER = "https://pypi.org/project/tritonbulk/"
"""Who says so, as every event has to tell."""

CLOSE_S = 10.0
"""How long events that wait to be sent are waited for at the end."""

PARENT_VARIABLE = "OPENLINEAGE_PARENT_ID"
"""Variable in which a scheduler names its own run: ``namespace/job/run id``."""


Facets: TypeAlias = Mapping[str, Any]
"""Facets of a run by their names in events."""


@attr.define(kw_only=True)
class TritonbulkRunFacet(RunFacet):
    """What of a run no standard facet holds."""

    jobFingerprint: str  # noqa: N815  as all members of events are named
    model: dict[str, str]
    shard: str | None

    @staticmethod
    def _get_schema() -> str:
        return f"{PRODUCER}#TritonbulkRunFacet"


@contextlib.contextmanager
def emitting(
    options: ScoreOptions, say: Callable[[str], None]
) -> Iterator[Callable[[ScoreResult], None]]:
    """Send START, and at the end of the block what became of the run.

    Gives what is told the result. ``say`` is told of an event that cannot be sent.

    Raises:
        OptionError: no variable says where events go; a retry does not help.
    """
    client = OpenLineageClient()
    if client.transport.kind == "console" and "OPENLINEAGE__TRANSPORT__TYPE" not in os.environ:
        raise OptionError(
            "--openlineage needs to know where events go; set OPENLINEAGE_URL, or for a file "
            "OPENLINEAGE__TRANSPORT__TYPE=file and OPENLINEAGE__TRANSPORT__LOG_FILE_PATH"
        )
    job = Job(
        namespace=os.environ.get("OPENLINEAGE_NAMESPACE", "default"),
        name=f"tritonbulk.score.{options.model}",
    )
    run_id, results = str(generate_new_uuid()), list[ScoreResult]()
    common = _run_facets(options)

    def emit(state: State, facets: Facets, inputs: list[Any], outputs: list[Any]) -> None:
        event = RunEvent(
            eventType=state,
            eventTime=datetime.now(UTC).isoformat(),
            producer=PRODUCER,
            run=Run(run_id, {**common, **facets}),
            job=job,
            inputs=inputs,
            outputs=outputs,
        )
        try:
            client.emit(event)
        except Exception as error:
            say(
                f"lineage event {state.value} was not sent ({type(error).__name__}); check the "
                "OPENLINEAGE_… variables"
            )

    store = open_store(options.out, is_single_writer=options.single_writer)
    output = OutputDataset(*_place(store.name))
    emit(State.START, {}, [], [output])
    try:
        yield results.append
    except BaseException as error:
        facet = error_message_run.ErrorMessageRunFacet(redact(str(error)), "PYTHON")
        stopped = isinstance(error, (StoppedError, KeyboardInterrupt))
        emit(State.ABORT if stopped else State.FAIL, {"errorMessage": facet}, [], [output])
        raise
    else:
        emit(State.COMPLETE, *_described(store, results[-1]))
    finally:
        client.close(CLOSE_S)


def _run_facets(options: ScoreOptions) -> Facets:
    """Return what is known of a run before it begins."""
    facets: dict[str, Any] = {
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
            version=version("tritonbulk"), name="tritonbulk"
        )
    }
    if options.data_interval is not None:
        begin, end = options.data_interval.to_plain()
        facets["nominalTime"] = nominal_time_run.NominalTimeRunFacet(begin, end)
    parts = os.environ.get(PARENT_VARIABLE, "").rsplit("/", 2)
    if len(parts) == 3:
        namespace, name, run_id = parts
        facets["parent"] = parent_run.ParentRunFacet(
            run=parent_run.Run(run_id), job=parent_run.Job(namespace, name)
        )
    return facets


def _described(store: Store, result: ScoreResult) -> tuple[Facets, list[Any], list[Any]]:
    """Return facets, inputs and outputs of a run that came to its end."""
    place, size_bytes = _place(store.name), None
    spec: Mapping[str, Any] = {"inputs": [], "output": [], "model": {}}
    with contextlib.suppress(TritonbulkError):  # the run is over, whatever its store says now
        standing = look(store)
        spec = standing.jobs[-1].file.spec
        numbers = standing.numbers(len(standing.jobs) - 1)
        size_bytes = sum(
            size for name, size in standing.parts.items() if part_number(name) in numbers
        )
    fields = [schema_dataset.SchemaDatasetFacetFields(name, kind) for name, kind in spec["output"]]
    output = OutputDataset(
        *place,
        facets={"schema": schema_dataset.SchemaDatasetFacet(fields)},
        outputFacets={
            "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                rowCount=result.job_rows,
                size=None if result.shard else size_bytes,
                fileCount=result.segments + result.segments_before,
            )
        },
    )
    shard = None if result.shard is None else str(result.shard)
    facet = TritonbulkRunFacet(jobFingerprint=result.job, model=dict(spec["model"]), shard=shard)
    return {"tritonbulk": facet}, [_input(each) for each in spec["inputs"]], [output]


def _input(entry: Mapping[str, Any]) -> InputDataset:
    state = entry["etag"] or entry["sha256"] or entry["sha256_ends"]
    return InputDataset(
        *_place(entry["name"]),
        facets={"version": dataset_version_dataset.DatasetVersionDatasetFacet(str(state))},
        inputFacets={
            "inputStatistics": input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
                rowCount=entry["rows"], size=entry["size"], fileCount=1
            )
        },
    )


def _place(name: str) -> tuple[str, str]:
    """Return namespace and name of a file, folder or URI, as OpenLineage names data sets."""
    if "://" not in name:
        return "file", Path(name).absolute().as_posix()
    parts = urlsplit(name)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path.lstrip("/") or "/"

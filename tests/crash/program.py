"""One scoring job without a network, as a program that can be killed at any moment.

    python tests/crash/program.py INPUT OUT [--segment-rows N] [--batch-rows N] [--delay-s S]
        [--factor F] [--version V] [--only-new] [--strict-inputs]

Source, plan, codec, driver, sink, job and store are the product's own; the server is a function
that multiplies column ``x`` by ``--factor``. The last line of stdout is a JSON object.
"""

import argparse
import asyncio
import json
from dataclasses import replace

from tritonbulk.assembly import make_limits, make_pipeline, naming
from tritonbulk.contract import Contract, InputTensor, OutputTensor, datatype
from tritonbulk.dispatch import Limits
from tritonbulk.driver import drive
from tritonbulk.job.commit import look, open_job
from tritonbulk.job.protocol import StandingJob, check_start
from tritonbulk.job.repair import check_whole
from tritonbulk.job.sharing import tell_count, tell_rows
from tritonbulk.job.stores.opening import open_store
from tritonbulk.jobrun import job_inputs, make_spec, missing_segments, part_writer, write_empty
from tritonbulk.options import ScoreOptions
from tritonbulk.plan import make_plan
from tritonbulk.source import open_source
from tritonbulk.testing import ScriptedTransport
from tritonbulk.transport import ServedModel

FP32 = datatype("FP32")
INPUTS = (InputTensor("x", FP32, (1,)),)
OUTPUTS = (OutputTensor("y", FP32, (1,)),)


def served(version="1", digest="sha256:1", config="sha256:2"):
    contract = Contract("m", digest, INPUTS, OUTPUTS)
    return ServedModel("m", version, 1024, INPUTS, OUTPUTS, contract, config)


def run(
    options,
    *,
    model=None,
    transport=None,
    store=None,
    say=print,
    stop=None,
    sleep=None,
    files=None,
    limited=False,
):
    """Run one job to its end and return (parts made, parts there before, manifest's digest).

    The digest is None if the run was stopped or the job stood there finished. Rows may fail without
    a limit unless it is ``limited``; ``files`` are the model's.
    """
    model = model or served()
    transport = transport or ScriptedTransport(lambda tensors: {"y": tensors["x"] * 2})
    store = store or open_store(options.out)
    waits = {} if sleep is None else {"sleep": sleep}
    source = open_source(
        options.inputs,
        options.input_format,
        options.columns,
        options.where,
        is_untrusted=options.untrusted,
    )
    standing = look(store, **waits)
    check_start(standing, is_fresh=options.fresh)
    check_whole(standing)
    inputs = job_inputs(source, options, standing)
    if inputs is None:
        return 0, 0, None
    plan = make_plan(options, model, source.schema, None, source.name)
    spec = make_spec(options, inputs, model, plan, options.segment_rows, files)
    job = open_job(store, spec, standing, say, is_fresh=options.fresh, shard=options.shard, **waits)
    if isinstance(job, StandingJob):
        return 0, len(job.manifest.parts), None
    before = len(job.parts)
    rows_read: dict[int, int] = {}
    segments = missing_segments(
        inputs, job, plan, options.segment_rows, options.limit_rows, rows_read.__setitem__
    )

    async def confirm(_):
        return frozenset()

    pipeline = make_pipeline(
        naming(inputs.source),
        segments,
        model,
        plan,
        part_writer(job, plan.keep, has_status=options.status_columns),
        confirm,
    )
    limits = Limits(max_outage_s=60.0, failed_rows_max=10**9)
    if limited:
        statements = [part.statement for part in job.parts.values()]
        limits = replace(
            make_limits(options, inputs.source.rows, 0),
            rows_before=sum(each.rows for each in statements),
            rows_failed_before=sum(each.rows_failed for each in statements),
        )
    driven = asyncio.run(
        drive(
            pipeline,
            limits,
            [transport],
            lambda *_: None,
            lambda: None,
            stop,
            options.stop_grace_s,
        )
    )
    if driven.stopped:
        return len(job.parts) - before, before, None
    if options.shard is not None:
        tell_count(job, options.shard.count)
        if not any(rows_read.values()) and 0 not in job.others:
            write_empty(job, inputs.source, plan)
        tell_rows(job, rows_read)
        return len(job.parts) - before, before, None
    if not job.parts:
        write_empty(job, inputs.source, plan)
    manifest, digest = job.finish()
    return len(manifest.parts) - before, before, digest


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("input", nargs="+")
    parser.add_argument("out")
    parser.add_argument("--segment-rows", type=int, default=100)
    parser.add_argument("--batch-rows", type=int, default=32)
    parser.add_argument("--delay-s", type=float, default=0.0)
    parser.add_argument("--factor", type=float, default=2.0)
    parser.add_argument("--version", default="1")
    parser.add_argument("--only-new", action="store_true")
    parser.add_argument("--strict-inputs", action="store_true")
    given = parser.parse_args()
    options = ScoreOptions(
        inputs=tuple(given.input),
        model="m",
        out=given.out,
        segment_rows=given.segment_rows,
        batch_rows=given.batch_rows,
        only_new=given.only_new,
        strict_inputs=given.strict_inputs,
    )

    def double(tensors):
        transport.requests.clear()
        return {"y": tensors["x"] * given.factor}

    transport = ScriptedTransport(double, delay_s=given.delay_s)
    made, before, digest = run(options, model=served(given.version), transport=transport)
    print(json.dumps({"made": made, "before": before, "manifest": digest}))


if __name__ == "__main__":
    main()

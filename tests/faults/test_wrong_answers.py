"""P8: answers that a proxy mutates never reach a part. Live."""

import asyncio
import itertools
import os
import random

import grpc
import pytest
from tritonclient.grpc import service_pb2

from tests.faults.conftest import check_output, write_rows
from tritonbulk.errors import TritonbulkError
from tritonbulk.options import ScoreOptions
from tritonbulk.scoring import run_score

pytestmark = [pytest.mark.live, pytest.mark.ci]

FULL = bool(os.environ.get("TRITONBULK_TEST_FULL"))
ROWS = 320
INFER = "/inference.GRPCInferenceService/ModelInfer"


def more_rows(answer, _):
    answer.outputs[0].shape[0] += 1


def fewer_rows(answer, _):
    answer.outputs[0].shape[0] -= 1
    answer.raw_output_contents[0] = answer.raw_output_contents[0][:-4]


def another_dtype(answer, _):
    answer.outputs[0].datatype = "FP64"


def another_rank(answer, _):
    answer.outputs[0].shape.append(1)


def no_output(answer, _):
    del answer.outputs[:]
    del answer.raw_output_contents[:]


def another_name(answer, _):
    answer.outputs[0].name = "z"


def the_output_twice(answer, _):
    answer.outputs.append(answer.outputs[0])
    answer.raw_output_contents.append(answer.raw_output_contents[0])


def another_version(answer, _):
    answer.model_version = "2"


def cut_off(answer, rng):
    data = answer.raw_output_contents[0]
    answer.raw_output_contents[0] = data[: rng.randrange(len(data))]


def too_long(answer, _):
    answer.raw_output_contents[0] += b"\0\0\0\0"


def no_data(answer, _):
    del answer.raw_output_contents[:]


def negative(answer, _):
    answer.outputs[0].shape[0] = -1


MUTATIONS = (
    more_rows, fewer_rows, another_dtype, another_rank, no_output, another_name, the_output_twice,
    another_version, cut_off, too_long, no_data, negative,
)  # fmt: skip
BYTES_MUTATIONS = {
    "garbage": lambda data, rng: bytes(rng.randrange(256) for _ in range(len(data))),
    "nothing": lambda data, rng: b"",
    "truncated": lambda data, rng: data[: rng.randrange(1, len(data))],
}
RATES = (0.05, 0.4, 1.0)
CASES = [
    (mutation, rate, seed)
    for mutation, rate, seed in itertools.product(
        (*MUTATIONS, *BYTES_MUTATIONS), RATES, range(45 if FULL else 1)
    )
]


class Mutator(grpc.GenericRpcHandler):
    """Passes calls on, and changes a share of the answers to inference."""

    def __init__(self, upstream):
        self._upstream = upstream
        self.mutation, self.rate, self.random = None, 0.0, random.Random(0)
        self.mutated = 0

    def service(self, details):
        async def call(data, context):
            try:
                answer = await self._upstream.unary_unary(details.method)(data, timeout=30)
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details())
            if details.method == INFER and self.random.random() < self.rate:
                self.mutated += 1
                return self._mutate(answer)
            return answer

        return grpc.unary_unary_rpc_method_handler(call)

    def _mutate(self, data):
        if isinstance(self.mutation, str):
            return BYTES_MUTATIONS[self.mutation](data, self.random)
        answer = service_pb2.ModelInferResponse.FromString(data)
        self.mutation(answer, self.random)
        return answer.SerializeToString()


async def run_all(server, path, folder):
    outcomes = {"right": 0, "refused": 0}
    upstream = grpc.aio.insecure_channel(server)
    proxy = grpc.aio.server()
    mutator = Mutator(upstream)
    proxy.add_generic_rpc_handlers((mutator,))
    address = f"unix:{folder}/s"
    assert proxy.add_insecure_port(address)
    await proxy.start()
    for number, (mutation, rate, seed) in enumerate(CASES):
        mutator.mutation, mutator.rate = mutation, rate
        mutator.random = random.Random(seed)
        out = folder / f"out{number}"
        options = ScoreOptions(
            inputs=(str(path),),
            model="echo",
            out=out,
            endpoints=(address,),
            input_map={"x": ("x",)},
            segment_rows=64,
            max_outage_s=20.0,
        )
        if rate < 1.0:
            result = await run_score(options)
            assert result.rows_failed == 0, "no row is to blame"
            check_output(out, ROWS)
            outcomes["right"] += 1
            continue
        with pytest.raises(TritonbulkError):
            await run_score(options)
        assert not list(out.glob("part-*")), "nothing wrong is written"
        outcomes["refused"] += 1
    await proxy.stop(0)
    await upstream.close()
    return outcomes, mutator.mutated


def test_mutated_answers_never_reach_a_part(echo_server, tmp_path, capsys):
    path = write_rows(tmp_path / "rows.parquet", ROWS)
    outcomes, mutated = asyncio.run(run_all(echo_server.grpc, path, tmp_path))
    assert len(CASES) >= 40
    with capsys.disabled():
        print(
            f"\nP8: {len(CASES)} cases, {mutated} answers mutated, none written: "
            f"{outcomes['right']} runs ended right, {outcomes['refused']} were refused"
        )

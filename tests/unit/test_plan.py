"""The plan of a run: which contract holds, what is read, sent and kept."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from tritonclient.grpc import model_config_pb2, service_pb2

import tritonbulk
from tritonbulk.contract import (
    CONTRACT_PARAMETER,
    Column,
    Contract,
    InputTensor,
    OutputTensor,
    datatype,
)
from tritonbulk.errors import ContractError, InputError, ModelError, OptionError
from tritonbulk.options import ScoreOptions
from tritonbulk.plan import make_plan
from tritonbulk.profile import Profile
from tritonbulk.transport import ServedModel
from tritonbulk.transport.served_model import config_digest, describe

FP32 = datatype("FP32")
SCHEMA = pa.schema({"id": pa.int64(), "a": pa.float32(), "b": pa.float32(), "x": pa.float32()})
OPTIONS = ScoreOptions(inputs=("in.parquet",), model="m", out=Path("out"))
X = InputTensor("x", FP32, (2,))
Y = OutputTensor("y", FP32, (1,))
SERVED = ServedModel("m", "3", 64, (X,), (Y,), None)
CONTRACT = Contract("m", "sha256:1", (replace(X, columns=(Column("b"), Column("a"))),), (Y,))


def plan(served=SERVED, in_repository=None, **options):
    return make_plan(replace(OPTIONS, **options), served, SCHEMA, in_repository, "in.parquet")


def columns(found):
    return [column.name for column in found.inputs[0].columns]


def test_the_servers_contract_says_which_columns_feed_the_model():
    found = plan(replace(SERVED, contract=CONTRACT))
    assert columns(found) == ["b", "a"]
    assert found.keep == ("id", "a", "b", "x")
    assert found.columns == ("id", "a", "b", "x")
    assert found.names == ("y",)
    assert found.batch_rows == 64


def test_an_input_map_stands_above_the_contract():
    found = plan(replace(SERVED, contract=CONTRACT), input_map={"x": ("a", "x")})
    assert columns(found) == ["a", "x"]


def test_the_repositorys_contract_holds_where_the_server_tells_none():
    assert columns(plan(in_repository=CONTRACT)) == ["b", "a"]


def test_two_contracts_that_disagree_are_refused():
    served = replace(SERVED, contract=CONTRACT)
    assert plan(served, in_repository=CONTRACT)
    with pytest.raises(ContractError, match="differ"):
        plan(served, in_repository=replace(CONTRACT, digest="sha256:2"))


def test_a_contract_that_is_not_of_this_model_is_refused():
    other = replace(CONTRACT, inputs=(replace(CONTRACT.inputs[0], shape=(3,)),))
    with pytest.raises(ContractError, match=r"does not describe input 'x' \(FP32 \[2\]\)"):
        plan(replace(SERVED, contract=other))


def test_one_value_a_row_is_the_same_with_and_without_its_dimension():
    served = replace(SERVED, inputs=(replace(X, shape=(1,)),))
    contract = replace(CONTRACT, inputs=(InputTensor("x", FP32, (), (Column("a"),)),))
    found = plan(replace(served, contract=contract))
    assert found.inputs[0].shape == (1,), "the wire has the dimension"


def test_a_model_without_contract_takes_columns_named_like_its_tensors():
    assert columns(plan(replace(SERVED, inputs=(replace(X, shape=(1,)),)))) == ["x"]


def test_only_what_is_kept_or_fed_is_read():
    found = plan(input_map={"x": ("a", "b")}, keep=("i*",))
    assert found.keep == ("id",)
    assert found.columns == ("id", "a", "b")
    assert plan(input_map={"x": ("a", "b")}, keep=()).columns == ("a", "b")


def test_what_cannot_be_kept_or_renamed_is_refused():
    mapped = {"input_map": {"x": ("a", "b")}}
    with pytest.raises(InputError, match="--keep 'z'"):
        plan(keep=("z",), **mapped)
    with pytest.raises(OptionError, match="--rename names output 'q'"):
        plan(rename={"q": "z"}, **mapped)
    with pytest.raises(OptionError, match="two columns named 'id'"):
        plan(rename={"y": "id"}, **mapped)
    with pytest.raises(OptionError, match="--batch-rows 65 is more than the max_batch_size 64"):
        plan(batch_rows=65, **mapped)
    with pytest.raises(OptionError, match=r"65 \(pinned by --profile\) is more than"):
        plan(profile=Profile("m", 65, 1, 1.0), **mapped)


def test_a_profile_pins_the_rows_of_a_request():
    found = plan(profile=Profile("m", 17, 1, 1.0), input_map={"x": ("a", "b")})
    assert found.batch_rows == 17


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"inputs": ()}, "no input"),
        ({"model": ""}, "no model"),
        ({"batch_rows": 0}, "--batch-rows is 0"),
        ({"segment_rows": -1}, "--segment-rows is -1"),
        ({"in_flight_max": 0}, "--max-in-flight is 0"),
        ({"limit_rows": 0}, "--limit is 0"),
        ({"max_outage_s": -1.0}, "--max-outage is -1"),
        ({"failed_fraction_max": 1.5}, "--max-failed-fraction is 1.5"),
        ({"max_outage_s": float("nan")}, "--max-outage is nan"),
        ({"endpoints": ("localhost",)}, "'localhost' is not of the form HOST:PORT"),
        ({"endpoints": ("http://h:1",)}, "not of the form HOST:PORT"),
        ({"endpoints": ("h:99999",)}, "not of the form HOST:PORT"),
        ({"endpoints": ("",)}, "not of the form HOST:PORT"),
        ({"endpoints": ("h:1",), "instances": 2}, "leave them out with --endpoint"),
    ],
)
def test_options_without_a_meaning_are_refused(wrong, message):
    with pytest.raises(OptionError, match=message):
        replace(OPTIONS, **wrong)


def metadata(**shapes):
    answer = service_pb2.ModelMetadataResponse(name="m", versions=["3", "12"])
    answer.inputs.add(name="x", datatype="FP32", shape=shapes.get("x", [-1, 2]))
    answer.outputs.add(name="y", datatype="FP32", shape=shapes.get("y", [-1, 1]))
    return answer


def config():
    answer = service_pb2.ModelConfigResponse()
    answer.config.max_batch_size = 64
    answer.config.parameters[CONTRACT_PARAMETER].string_value = CONTRACT.to_json()
    return answer


def test_metadata_and_config_describe_the_model():
    expected = replace(
        SERVED, version="12", contract=CONTRACT, config_digest=config_digest(config())
    )
    assert describe(metadata(), config(), None) == expected
    assert describe(metadata(), config(), "3").version == "3"


def test_the_digest_of_a_configuration_is_of_what_can_change_values():
    same, other = config(), config()
    same.config.instance_group.add(count=4)
    same.config.dynamic_batching.max_queue_delay_microseconds = 100
    same.config.version_policy.specific.versions.extend([3, 12])
    assert config_digest(same) == config_digest(config())
    other.config.optimization.graph.level = 1
    assert config_digest(other) != config_digest(config())
    one, two = config(), config()
    one.config.instance_group.add(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_GPU)
    two.config.instance_group.add(count=2, kind=model_config_pb2.ModelInstanceGroup.KIND_GPU)
    assert config_digest(one) == config_digest(two) != config_digest(config())
    assert config_digest(None) == ""


def test_a_server_without_model_config_is_enough():
    assert describe(metadata(), None, None) == replace(SERVED, version="12", max_batch_size=0)


def test_models_that_cannot_be_scored_by_rows_are_refused():
    with pytest.raises(ModelError, match=r"'x' .* has no batch dimension"):
        describe(metadata(x=[4, 2]), None, None)
    decoupled = config()
    sequential = config()
    sequential.config.sequence_batching.SetInParent()
    with pytest.raises(ModelError, match="takes sequences"):
        describe(metadata(), sequential, None)
    decoupled.config.model_transaction_policy.decoupled = True
    with pytest.raises(ModelError, match="decoupled"):
        describe(metadata(), decoupled, None)


def test_optional_inputs_are_left_out():
    described, settings = metadata(), config()
    described.inputs.add(name="o", datatype="FP32", shape=[-1, 1])
    settings.config.input.add(name="o", optional=True)
    assert describe(described, settings, None).inputs == (X,)


@pytest.mark.parametrize("endpoint", ["gpu1:8001", "127.0.0.1:1", "[::1]:8001", "dns:///t:8001"])
def test_addresses_that_grpc_understands_are_taken(endpoint):
    assert replace(OPTIONS, endpoints=(endpoint,)).endpoints == (endpoint,)


def test_a_map_that_names_every_tensor_does_not_ask_contracts_that_disagree():
    served = replace(SERVED, contract=replace(CONTRACT, digest="sha256:2"))
    found = plan(served, in_repository=CONTRACT, input_map={"x": ("a", "b")})
    assert columns(found) == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_outage": 5}, "no option 'max_outage'; it has .*max_outage_s"),
        ({"endpoints": "nohost"}, "'nohost' is not of the form HOST:PORT"),
        ({"batch_rows": 0}, "--batch-rows is 0"),
    ],
)
def test_wrong_arguments_of_the_library_are_sentences(given, message):
    with pytest.raises(OptionError, match=message):
        tritonbulk.score("in.parquet", model="m", out="out", **given)


def test_the_blocking_form_says_what_to_do_in_an_event_loop():
    async def inside():
        tritonbulk.score("in.parquet", model="m", out="out")

    with pytest.raises(OptionError, match="await score_async"):
        asyncio.run(inside())

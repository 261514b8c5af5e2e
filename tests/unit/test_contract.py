"""The contract: its JSON, its binding to columns, and what it does to values."""

import json

import numpy as np
import pyarrow as pa
import pytest

from tritonbulk.contract import (
    Column,
    Contract,
    InputTensor,
    OutputTensor,
    bind_inputs,
    check_columns,
    datatype,
    gather,
    parse_input_map,
)
from tritonbulk.errors import ContractError, InputError, OptionError

FP32 = datatype("FP32")


def tensor(*columns: Column, shape=None, kind="FP32"):
    return InputTensor("x", datatype(kind), (len(columns),) if shape is None else shape, columns)


def gathered(array, column=None, kind="FP32"):
    batch = pa.record_batch({"a": array})
    return gather(batch, tensor(column or Column("a"), shape=(), kind=kind)).tolist()


def test_json_brings_every_field_back():
    contract = Contract(
        model="m",
        digest="sha256:abc",
        inputs=(tensor(Column("a"), Column("b", ("u", "v"), null="nan", unknown=-1.0)),),
        outputs=(OutputTensor("y", FP32, (2,)),),
        source="lightgbm",
        tools={"onnx": "1.23.2"},
        parity={"rows": 7},
    )
    assert Contract.from_json(contract.to_json()) == contract
    assert Contract.from_json(contract.to_json(indent=2)) == contract
    assert "\n" not in contract.to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "null"])
def test_what_is_no_contract_is_refused(text):
    with pytest.raises(ContractError, match="not a contract"):
        Contract.from_json(text)


def test_another_format_is_refused_by_its_number():
    text = json.loads(Contract("m", "", (), ()).to_json()) | {"format": 9}
    with pytest.raises(ContractError, match="format 9"):
        Contract.from_json(json.dumps(text))


def test_an_input_map_is_parsed():
    assert parse_input_map(["x=a, b", "y=f*"]) == {"x": ("a", "b"), "y": ("f*",)}


@pytest.mark.parametrize("entry", ["x", "=a", "x=", "x=a,,b"])
def test_a_malformed_input_map_is_refused(entry):
    with pytest.raises(OptionError, match="tensor=column"):
        parse_input_map([entry])


def test_a_tensor_that_is_mapped_twice_is_refused():
    with pytest.raises(OptionError, match="twice"):
        parse_input_map(["x=a", "x=b"])


SCHEMA = pa.schema({"f1": pa.float32(), "f0": pa.float32(), "x": pa.float32(), "t": pa.string()})


def bound(input_map, *tensors):
    return [[c.name for c in t.columns] for t in bind_inputs(tensors, input_map, SCHEMA)]


def test_patterns_expand_in_the_order_of_the_file():
    assert bound({"x": ("f*",)}, tensor(shape=(2,))) == [["f1", "f0"]]


def test_an_explicit_list_keeps_its_own_order():
    assert bound({"x": ("f0", "f1")}, tensor(shape=(2,))) == [["f0", "f1"]]


def test_without_map_the_contract_holds_and_without_contract_the_tensors_name():
    assert bound({}, tensor(Column("f0"))) == [["f0"]]
    assert bound({}, tensor(shape=())) == [["x"]]


def test_a_remapped_column_keeps_its_policy():
    known = tensor(Column("f0", null="nan"))
    (again,) = bind_inputs([known], {"x": ("f0",)}, SCHEMA)
    assert again.columns[0].null == "nan"


def test_unknown_names_are_refused():
    with pytest.raises(ContractError, match="inputs are x"):
        bound({"z": ("f0",)}, tensor())
    with pytest.raises(InputError, match=r"matches 'g\*'"):
        bound({"x": ("g*",)}, tensor())
    with pytest.raises(ContractError, match="--input-map q="):
        bound({}, InputTensor("q", FP32, ()))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (tensor(Column("nope")), "'nope' .* is missing"),
        (tensor(Column("t")), "is string, but tensor 'x' wants numbers"),
        (tensor(Column("f0", categories=("a",))), "is float, but tensor 'x' wants text"),
        (tensor(Column("f0"), kind="BYTES"), "wants text or binary"),
        (tensor(Column("t", categories=(1, 2))), "wants integers"),
    ],
)
def test_columns_that_do_not_fit_are_refused(bad, message):
    with pytest.raises(InputError, match=message):
        check_columns([bad], SCHEMA, "in.parquet")


def test_too_few_columns_for_a_tensor_are_refused():
    with pytest.raises(ContractError, match="takes 3 values a row but 1"):
        check_columns([tensor(Column("f0"), shape=(3,))], SCHEMA, "in.parquet")


def test_categories_become_codes_with_nan_for_nulls_and_strangers():
    column = Column("a", categories=("u", "v"), null="nan", unknown="nan")
    assert gathered(pa.array(["v", "u", "z", None]), column) == pytest.approx(
        [1, 0, np.nan, np.nan], nan_ok=True
    )


def test_null_and_stranger_can_have_numbers_of_their_own():
    column = Column("a", categories=(10, 20), null=-1.0, unknown=-2.0)
    array = pa.array([20, 30, None, 10], pa.int16())
    assert gathered(array, column, "INT64") == [1, -2, -1, 0]


def test_dictionary_columns_are_what_they_decode_to():
    array = pa.array(["v", "u", "v"]).dictionary_encode()
    assert gathered(array, Column("a", categories=("u", "v"))) == [1, 0, 1]


def test_slices_are_read_from_where_they_begin():
    assert gathered(pa.array([1.0, 2.0, 3.0, 4.0]).slice(2, 2)) == [3, 4]
    lists = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)).slice(1)
    batch = pa.record_batch({"a": lists})
    assert gather(batch, tensor(Column("a"), shape=(2,))).tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("array", "kind", "message"),
    [
        (pa.array([1.0, None]), "FP32", "has a null at row 1"),
        (pa.array([0, 2**24 + 1]), "FP32", "does not fit tensor 'x'"),
        (pa.array([0.0, 1e300]), "FP32", "1e.300 at row 1, which overflows"),
        (pa.array([1.5]), "INT64", "does not fit"),
        (pa.array([300]), "UINT8", "does not fit"),
        (pa.array([-1]), "UINT64", "does not fit"),
        (pa.array(["a", None]), "BYTES", "null at row 1"),
    ],
)
def test_a_value_that_the_tensor_cannot_hold_is_an_error_and_never_a_wrong_number(
    array, kind, message
):
    with pytest.raises(InputError, match=message):
        gathered(array, kind=kind)


def test_an_unknown_category_is_named():
    with pytest.raises(InputError, match="unknown category 'z' at row 1"):
        gathered(pa.array(["u", "z"]), Column("a", categories=("u",)))


def test_ragged_lists_are_refused_with_their_row():
    batch = pa.record_batch({"a": pa.array([[1.0], [1.0, 2.0]])})
    with pytest.raises(InputError, match=r"different lengths \(first at row 1"):
        gather(batch, tensor(Column("a"), shape=(-1,)))


def test_infinity_and_nan_pass_as_they_are():
    assert gathered(pa.array([np.inf, -np.inf, np.nan])) == pytest.approx(
        [np.inf, -np.inf, np.nan], nan_ok=True
    )


def test_an_unknown_datatype_is_refused():
    with pytest.raises(ContractError, match="BF16"):
        datatype("BF16")

"""The contract: its JSON, its binding to columns, and what it does to values."""

import json

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonbulk.contract import (
    Column,
    Contract,
    InputTensor,
    OutputTensor,
    bind_inputs,
    check_columns,
    datatype,
    gather,
    gather_texts,
    parse_input_map,
    prediction_row_bytes,
    row_bytes,
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
        (
            tensor(Column("t")),
            r"is string, but tensor 'x' \(FP32\) wants integer or float or truth",
        ),
        (tensor(Column("f0", categories=("a",))), r"is float, but tensor 'x' \(FP32\) wants text"),
        (tensor(Column("f0"), kind="BYTES"), "wants text"),
        (tensor(Column("f0", dtype="int64")), "is float, .* wants integer;"),
        (tensor(Column("t", dtype="double")), "is string, .* wants integer or float;"),
        (tensor(Column("t", categories=(1, 2))), "wants integer;"),
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
        (pa.array([1.0, None]), "FP32", "has a null at row 1.*or leave such rows out"),
        (pa.array([0, 2**24 + 1]), "FP32", "does not fit tensor 'x'"),
        (pa.array([0.0, 1e300]), "FP32", "1e.300 at row 1, which overflows"),
        (pa.array([1.5]), "INT64", "does not fit"),
        (pa.array([300]), "UINT8", "does not fit"),
        (pa.array([-1]), "UINT64", "does not fit"),
        (pa.array(["a", None]), "BYTES", "null at row 1"),
        (pa.array([0, 1, 5]), "BOOL", "holds 5 at row 2"),
        (pa.array([0.5]), "BOOL", "holds 0.5 at row 0"),
        (pa.array([float("nan")]), "BOOL", "holds nan at row 0"),
        (pa.array(["x"]), "FP32", "does not fit"),
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
    with pytest.raises(ContractError, match=r"FP8 is not supported; .* FP64, BF16, BYTES"):
        datatype("FP8")


def test_fractions_are_rounded_to_the_nearest_bf16_and_ties_to_even():
    halves = [1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-7, 3.3e38, np.inf, 2**-140]
    expected = [1.0, 1 + 2**-6, -1 - 2**-7, 3.2896e38, np.inf, 0.0]
    for kind in (pa.float32(), pa.float64()):
        found = gathered(pa.array(halves, kind), kind="BF16")
        assert [float(value) for value in found][:3] == expected[:3]
        assert [float(value) for value in found] == pytest.approx(expected, rel=1e-2, abs=1e-38)
    nulls = gathered(pa.array([None, 2.0]), Column("a", null="nan"), "BF16")
    assert np.isnan(float(nulls[0]))
    assert float(nulls[1]) == 2


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pa.array([1.0, 3.4e38], pa.float32()), "at row 1, which overflows"),
        (pa.array([1e300]), "at row 0, which overflows"),
        (pa.array([1, 257]), "257 would be rounded"),
        (pa.array([None, 1.0]), "has a null at row 0"),
    ],
)
def test_what_bf16_cannot_hold_is_refused(array, message):
    with pytest.raises(InputError, match=message):
        gathered(array, kind="BF16")


@given(st.lists(st.floats(allow_infinity=False, min_value=-3e38, max_value=3e38), min_size=1))
def test_float64_becomes_the_bf16_that_ml_dtypes_makes_of_it(values):
    values.append(1 + 2**-8 + 2**-40)  # by way of float32 a tie
    batch = pa.record_batch({"a": values})
    found = gather(batch, tensor(Column("a"), shape=(), kind="BF16"))
    expected = np.array(values).astype(ml_dtypes.bfloat16)
    is_nan = np.isnan(expected)
    assert (np.isnan(found) == is_nan).all()
    assert found[~is_nan].tobytes() == expected[~is_nan].tobytes()


@pytest.mark.parametrize("value", [2049, -2049, 65520, 70000, 2**24 + 1, 2**62])
def test_an_integer_that_half_cannot_hold_is_refused(value):
    for array in (pa.array([1, value]), pa.array([None, value])):
        with pytest.raises(InputError, match=r"column 'a' .*\(FP16\): Integer value"):
            gathered(array, Column("a", null=0), kind="FP16")


def test_integers_that_half_holds_are_fed_unchanged():
    whole = [0, -2048, 2048, 2050, 65504, None]
    assert gathered(pa.array(whole), Column("a", null=-1), "FP16") == [*whole[:-1], -1]


@pytest.mark.parametrize(
    ("kind", "held"), [("BF16", 257), ("FP16", 2049), ("INT8", 128), ("UINT8", 256), ("BOOL", 2)]
)
def test_codes_that_would_collide_in_the_tensor_are_refused(kind, held):
    names = tuple(f"c{code}" for code in range(held + 1))
    assert gathered(pa.array(names[:held]), Column("a", names[:held]), kind) == list(range(held))
    for used in (names[held], names[0]):
        with pytest.raises(InputError, match=rf"'a' .* {held} .*'c{held}'.* tensor 'x' \({kind}"):
            gathered(pa.array([used]), Column("a", names), kind)


@pytest.mark.parametrize(
    ("substitute", "kind"),
    [(257, "BF16"), (0.1, "BF16"), (2049, "FP16"), (7e4, "FP16"), (2**24 + 1, "FP32"),
     (0.1, "FP32"), (-1, "UINT64"), (2**63, "INT64"), (2, "BOOL"), (2**53 + 1, "FP64")],
)  # fmt: skip
def test_a_substitute_that_the_tensor_would_change_is_refused(substitute, kind):
    message = rf"column 'a' .* {substitute} .*tensor 'x' \({kind}"
    with pytest.raises(InputError, match=message):
        gathered(pa.array([None], pa.int8()), Column("a", null=substitute), kind)
    with pytest.raises(InputError, match=message):
        gathered(pa.array(["z"]), Column("a", ("u",), unknown=substitute), kind)


@pytest.mark.parametrize(
    ("substitute", "kind"),
    [(256, "BF16"), (0.5, "BF16"), (-2048, "FP16"), (-1e9, "FP32"), (255, "UINT8"), (1, "BOOL"),
     (2**53, "INT64"), (0.1, "FP64")],
)  # fmt: skip
def test_a_substitute_that_the_tensor_holds_is_fed_unchanged(substitute, kind):
    assert gathered(pa.array([None], pa.int8()), Column("a", null=substitute), kind) == [substitute]


NUMBERS, TEXTS = pa.list_(pa.int32()), pa.list_(pa.string())


@pytest.mark.parametrize(("of_lists", "kind"), [(NUMBERS, "INT32"), (TEXTS, "BYTES")])
@pytest.mark.parametrize("shape", [(5,), (-1,)])
def test_lists_whose_widths_only_rows_tell_do_not_stand_side_by_side(of_lists, kind, shape):
    lists = {"a": [[1, 2, 3]], "b": [[4, 5]]}
    if kind == "BYTES":
        lists = {name: [[str(v) for v in row] for row in rows] for name, rows in lists.items()}
    columns = {name: pa.array(rows, of_lists) for name, rows in lists.items()}
    batch = pa.record_batch(columns)
    wanted = tensor(Column("a"), Column("b"), shape=shape, kind=kind)
    feed = gather_texts if kind == "BYTES" else gather
    for refused in (
        lambda: check_columns([wanted], batch.schema, "in"),
        lambda: feed(batch, wanted),
    ):
        with pytest.raises(InputError, match=r"columns 'a', 'b' .* tensor 'x'.* fixed size"):
            refused()


def test_a_list_of_open_width_beside_others_takes_the_width_that_they_leave():
    wanted = tensor(Column("a"), Column("b"), shape=(3,))
    for row, problem in (([1.0, 2.0], None), ([1.0], "2 values"), ([1.0] * 3, "4 values")):
        batch = pa.record_batch({"a": [row], "b": [9.0]})
        check_columns([wanted], batch.schema, "in")
        if problem is None:
            assert gather(batch, wanted).tolist() == [[1, 2, 9]]
            continue
        with pytest.raises(InputError, match=rf"\('a', 'b'\) give {problem} a row"):
            gather(batch, wanted)
    free = tensor(Column("a"), Column("b"), shape=(-1,))
    for refused in (lambda: check_columns([free], batch.schema, "in"), lambda: gather(batch, free)):
        with pytest.raises(InputError, match=r"column 'a' .* fixed size"):
            refused()


def test_predictions_take_the_bytes_of_their_columns_and_the_wire_those_of_the_datatype():
    outputs = [OutputTensor("y", datatype(kind), (3,)) for kind in ("BF16", "BOOL", "FP16")]
    assert row_bytes(outputs) == 3 * (2 + 1 + 2)
    assert prediction_row_bytes(outputs) == 3 * (4 + 1 + 2)
    assert prediction_row_bytes([OutputTensor("t", datatype("BYTES"), (-1,))]) == 256 * 64


def test_whole_numbers_are_taken_where_fractions_were_shown():
    check_columns([tensor(Column("f0", dtype="double"))], SCHEMA, "in.parquet")
    whole = pa.schema({"f0": pa.int16()})
    check_columns([tensor(Column("f0", dtype="double"))], whole, "in.parquet")


@pytest.mark.parametrize(("value", "kind"), [(2**24 + 1, "FP32"), (2**53 + 1, "FP64")])
def test_a_null_beside_it_does_not_make_a_number_fit(value, kind):
    column = Column("a", null="nan")
    for array in (pa.array([value]), pa.array([value, None])):
        with pytest.raises(InputError, match="does not fit"):
            gathered(array, column, kind)


@pytest.mark.parametrize(
    ("array", "column", "kind", "expected"),
    [
        (pa.array([0, 1, 1.0]), Column("a"), "BOOL", [False, True, True]),
        (pa.array([True, None]), Column("a", null=0), "BOOL", [True, False]),
        (pa.array([True, False]), Column("a"), "FP16", [1.0, 0.0]),
        (pa.array([1, None], pa.int8()), Column("a", null=7), "INT64", [1, 7]),
        (pa.array([3], pa.int8()), Column("a", categories=(300, 3)), "INT32", [1]),
        (pa.array([None], pa.null()), Column("a", null=-1), "INT32", [-1]),
    ],
)
def test_what_fits_is_fed_as_it_is(array, column, kind, expected):
    assert gathered(array, column, kind) == expected


def test_a_substitute_must_fit_its_tensor():
    for substitute in (0.5, "nan"):
        with pytest.raises(InputError, match="does not fit"):
            gathered(pa.array([1, None]), Column("a", null=substitute), "INT64")
    with pytest.raises(InputError, match="BOOL"):
        gathered(pa.array([True, None]), Column("a", null="nan"), "BOOL")


def test_lists_within_lists_and_lists_of_texts_are_elements_row_by_row():
    nested = pa.array([[[1.0, 2.0]], [[3.0, 4.0]]], pa.list_(pa.list_(pa.float32()), 1))
    batch = pa.record_batch({"a": nested, "t": pa.array([["u", "v"], ["w", "x"]])})
    assert gather(batch, tensor(Column("a"), shape=(1, 2))).tolist() == [[[1, 2]], [[3, 4]]]
    words = tensor(Column("t"), shape=(2,), kind="BYTES")
    assert gather(batch, words).tolist() == [[b"u", b"v"], [b"w", b"x"]]
    shape, (texts,) = gather_texts(batch, words)
    assert (shape, texts.to_pylist()) == ((2, 2), ["u", "v", "w", "x"])


@pytest.mark.parametrize("policy", ["zero", None, True])
def test_a_policy_that_nobody_knows_is_refused_with_the_contract(policy):
    text = Contract("m", "", (tensor(Column("a", null="nan")),), ()).to_json()
    wrong = text.replace('"nan"', json.dumps(policy))
    with pytest.raises(ContractError, match="null policy"):
        Contract.from_json(wrong)

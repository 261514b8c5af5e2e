"""The codec says to the byte what tritonclient says, and reads what a server writes."""

import contextlib

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.grpc import InferInput, service_pb2
from tritonclient.utils import serialize_byte_tensor

from tritonbulk.codec import Predictions, Reply, RequestEncoder, ResponseDecoder
from tritonbulk.codec.text import decode_texts, encode_texts
from tritonbulk.codec.wire import split_response, split_stream_reply
from tritonbulk.contract import Column, InputTensor, OutputTensor, check_columns, datatype, gather
from tritonbulk.errors import AnswerError, ContractError, InputError
from tritonbulk.testing import encode_answer

NUMERIC = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BF16",
]  # fmt: skip


def arrays(name, shape):
    if name == "BF16":  # Files have no such type: float32 that are, and that are not, exact.
        values = arrays("FP32", shape).filter(lambda a: not (abs(a[np.isfinite(a)]) > 3e38).any())
        return values | values.map(lambda a: a.astype(ml_dtypes.bfloat16).astype(np.float32))
    dtype = datatype(name).numpy
    return hnp.arrays(dtype, shape, elements=hnp.from_dtype(dtype, allow_subnormal=False))


def decode_response(data, outputs, rows, version):
    return ResponseDecoder(outputs, version).decode(Reply(data), rows)


def request_of(tensor, batch):
    encoder = RequestEncoder("m", "7", [tensor], [OutputTensor("y", datatype("FP32"), ())])
    request = encoder.encode(encoder.prepare(batch), 0, len(batch))
    return service_pb2.ModelInferRequest.FromString(request.to_bytes())


@given(st.data(), st.sampled_from(NUMERIC), st.integers(1, 5), st.integers(1, 4))
def test_scalar_columns_become_the_bytes_that_tritonclient_sends(data, name, rows, width):
    values = data.draw(arrays(name, (rows, width)))
    names = [f"f{i}" for i in range(width)]
    columns = {n: pa.array(np.ascontiguousarray(values[:, i])) for i, n in enumerate(names)}
    tensor = InputTensor("x", datatype(name), (width,), tuple(Column(n) for n in names))

    request = request_of(tensor, pa.record_batch(columns))

    theirs = InferInput("x", [rows, width], name)
    theirs.set_data_from_numpy(values.astype(datatype(name).numpy))
    assert request.model_name == "m"
    assert request.model_version == "7"
    assert request.inputs[0] == theirs._get_tensor()
    assert list(request.raw_input_contents) == [theirs._get_content()]
    assert [output.name for output in request.outputs] == ["y"]


@given(st.data(), st.sampled_from(NUMERIC), st.integers(1, 4))
def test_a_fixed_size_list_column_becomes_the_whole_row(data, name, rows):
    values = data.draw(arrays(name, (rows, 2, 3)))
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 6)
    tensor = InputTensor("x", datatype(name), (2, 3), (Column("v"),))

    request = request_of(tensor, pa.record_batch({"v": lists}))

    assert list(request.inputs[0].shape) == [rows, 2, 3]
    assert list(request.raw_input_contents) == [values.astype(datatype(name).numpy).tobytes()]


@given(
    st.data(),
    st.sampled_from(NUMERIC),
    st.integers(0, 2),
    st.integers(2, 6),
    st.sampled_from([(3,), (1, 1, 1), (2, 1), (1, 2)]),
)
def test_a_run_of_rows_is_encoded_as_if_it_were_alone(data, name, skip, rows, widths):
    values = data.draw(arrays(name, (skip + rows, 3)))
    columns, end = {}, 0
    for width in widths:
        begin, end = end, end + width
        column = pa.array(np.ascontiguousarray(values[:, begin:end]).reshape(-1))
        if width > 1:
            column = pa.FixedSizeListArray.from_arrays(column, width)
        columns[f"c{begin}"] = column
    batch = pa.record_batch(columns).slice(skip)
    tensor = InputTensor("x", datatype(name), (3,), tuple(map(Column, columns)))
    begin = data.draw(st.integers(0, rows - 1))
    count = data.draw(st.integers(1, rows - begin))

    encoder = RequestEncoder("m", "7", [tensor], [])
    request = encoder.encode(encoder.prepare(batch), begin, count).to_bytes()

    alone = values[skip + begin : skip + begin + count].astype(datatype(name).numpy)
    found = service_pb2.ModelInferRequest.FromString(request)
    assert list(found.raw_input_contents) == [alone.tobytes()]
    assert list(found.inputs[0].shape) == [count, 3]


TEXT_COLUMNS = st.integers(1, 5).flatmap(
    lambda rows: st.lists(
        st.lists(st.binary(max_size=300), min_size=rows, max_size=rows), min_size=1, max_size=3
    )
)


def serialized(texts):
    array = np.array(texts, dtype=object)
    return serialize_byte_tensor(array).item() if array.size else b""


@given(TEXT_COLUMNS, st.sampled_from([pa.binary(), pa.large_binary()]), st.integers(0, 2))
def test_columns_of_texts_become_one_tensor_row_by_row(columns, kind, skip):
    # Slices, because offsets of an array need not begin at 0.
    padded = [pa.array([b"x"] * skip + column, kind).slice(skip) for column in columns]
    assert bytes(memoryview(encode_texts(padded))) == serialized(list(zip(*columns, strict=True)))


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_texts_come_back_as_they_were(texts):
    raw = memoryview(serialized(texts))
    assert decode_texts(raw, "y", len(texts)).to_pylist() == texts
    for wrong in (len(texts) + 1, len(texts) - 1):
        if wrong >= 0:
            with pytest.raises(AnswerError):
                decode_texts(raw, "y", wrong)


@given(st.lists(st.binary(max_size=300), max_size=3), st.text())
def test_a_response_is_split_into_what_protobuf_finds(raw, name):
    message = service_pb2.ModelInferResponse(
        model_name=name, id="7", raw_output_contents=raw, model_version="12"
    )
    message.outputs.add(name=name, shape=[1, 2])
    head, found = split_response(message.SerializeToString())
    assert [bytes(view) for view in found] == raw
    del message.raw_output_contents[:]
    message.id = ""
    assert service_pb2.ModelInferResponse.FromString(head) == message


@given(st.text(max_size=200), st.text(max_size=20), st.lists(st.binary(max_size=300), max_size=3))
def test_a_message_of_a_stream_is_split_into_what_protobuf_finds(error, name, raw):
    response = service_pb2.ModelInferResponse(id=name, model_name="m", raw_output_contents=raw)
    message = service_pb2.ModelStreamInferResponse(error_message=error, infer_response=response)
    reply = split_stream_reply(message.SerializeToString())
    assert (reply.id, reply.error) == (name, error)
    assert service_pb2.ModelInferResponse.FromString(bytes(reply.response)) == response


@given(st.binary(max_size=200))
def test_arbitrary_bytes_in_a_stream_are_a_wrong_answer_and_nothing_worse(data):
    with contextlib.suppress(AnswerError):
        split_stream_reply(data)


@given(st.text(st.characters(codec="ascii"), max_size=300))
def test_a_request_names_itself_where_it_is_told_to(name):
    encoder = RequestEncoder(
        "m", "7", [InputTensor("x", datatype("INT8"), (1,), (Column("a"),))], []
    )
    rows = encoder.prepare(pa.record_batch({"a": pa.array([1, 2], pa.int8())}))
    request = encoder.encode(rows, 0, 2)
    plain = service_pb2.ModelInferRequest.FromString(request.to_bytes())
    named = service_pb2.ModelInferRequest.FromString(request.to_bytes(name))
    assert named.id == name
    named.id = ""
    assert named == plain


WIDTHS = st.lists(st.integers(1, 4), min_size=2, max_size=4)


def side_by_side(values, widths, are_lists):
    """Columns of these widths whose elements make up the rows of ``values``."""
    columns, begin = {}, 0
    for index, (width, is_list) in enumerate(zip(widths, are_lists, strict=True)):
        part = pa.array(np.ascontiguousarray(values[:, begin : begin + width]).reshape(-1))
        if is_list:
            offsets = pa.array(np.arange(0, len(part) + 1, width), pa.int32())
            part = pa.ListArray.from_arrays(offsets, part)
        elif width > 1:
            part = pa.FixedSizeListArray.from_arrays(part, width)
        columns[f"c{index}"], begin = part, begin + width
    return pa.record_batch(columns)


@given(st.data(), st.sampled_from([*NUMERIC, "BYTES"]), st.integers(1, 5), WIDTHS)
def test_lists_and_scalars_fill_a_row_side_by_side(data, name, rows, widths):
    shape = (rows, sum(widths))
    if name == "BYTES":
        texts = data.draw(st.lists(st.binary(max_size=9), min_size=shape[1], max_size=shape[1]))
        values = np.array([texts] * rows, dtype=object)
        values[:, 0] = [str(row).encode() for row in range(rows)]
    else:
        values = data.draw(arrays(name, shape))
    open_width = data.draw(st.integers(0, len(widths)))  # of one list at most; or of none
    batch = side_by_side(values, widths, [at == open_width for at in range(len(widths))])
    tensor = InputTensor("x", datatype(name), (shape[1],), tuple(map(Column, batch.schema.names)))
    check_columns([tensor], batch.schema, "in")

    request = request_of(tensor, batch)

    theirs = InferInput("x", list(shape), name)
    theirs.set_data_from_numpy(values.astype(datatype(name).numpy))
    assert list(request.inputs[0].shape) == list(shape)
    assert list(request.raw_input_contents) == [theirs._get_content()]
    assert gather(batch, tensor).tolist() == values.astype(datatype(name).numpy).tolist() or (
        np.isnan(values.astype(float)).any()
    )


def test_lists_beside_scalars_must_fill_the_row():
    lists = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0, 3.0, 4.0], pa.float32()), 2)
    batch = pa.record_batch({"v": lists, "a": pa.array([1.0, 2.0], pa.float32())})
    tensor = InputTensor("x", datatype("FP32"), (4,), (Column("v"), Column("a")))
    with pytest.raises(ContractError, match=r"takes 4 values a row but 2 columns .* with 3 values"):
        check_columns([tensor], batch.schema, "in")
    with pytest.raises(InputError, match="give 3 values a row"):
        request_of(tensor, batch)


def test_data_outside_of_the_message_are_taken_unless_the_message_has_them():
    output = OutputTensor("y", datatype("FP32"), (1,))
    values = np.array([[1], [2]], np.float32)
    inside = service_pb2.ModelInferResponse.FromString(encode_answer("1", {"y": values}))
    outside = memoryview((values * 10).tobytes())

    def decoded():
        reply = Reply(inside.SerializeToString(), (outside,))
        return ResponseDecoder([output], "1").decode(reply, 2)[0].tolist()

    assert decoded() == [[1], [2]]
    inside.raw_output_contents[0] = b""
    assert decoded() == [[10], [20]]
    outside = outside[:4]
    with pytest.raises(AnswerError, match="4 bytes where"):
        decoded()


@given(st.lists(st.text(), min_size=1, max_size=6))
def test_text_becomes_the_bytes_that_tritonclient_sends(texts):
    tensor = InputTensor("s", datatype("BYTES"), (1,), (Column("s"),))

    request = request_of(tensor, pa.record_batch({"s": pa.array(texts, pa.string())}))

    theirs = InferInput("s", [len(texts), 1], "BYTES")
    theirs.set_data_from_numpy(np.array([[t.encode()] for t in texts], dtype=object))
    assert list(request.raw_input_contents) == [theirs._get_content()]


@given(st.data(), st.sampled_from(NUMERIC), st.integers(1, 4))
def test_an_answer_comes_back_as_it_was(data, name, rows):
    values = data.draw(arrays(name, (rows, 2))).astype(datatype(name).numpy)
    output = OutputTensor("y", datatype(name), (2,))

    (tensor,) = decode_response(encode_answer("7", {"y": values}), [output], rows, "7")

    assert tensor.tobytes() == values.tobytes()
    assert tensor.shape == values.shape

    predictions = Predictions(rows, [output], ["y"])
    predictions.put(0, [tensor])
    (field, column), *_ = predictions.to_columns()
    assert field.type == pa.list_(output.datatype.arrow, 2)
    back = np.asarray(column.flatten().to_numpy(zero_copy_only=False), output.datatype.numpy)
    assert back.tobytes() == values.tobytes()


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_text_in_an_answer_becomes_a_text_column(texts):
    output = OutputTensor("y", datatype("BYTES"), (1,))
    values = np.array([[t.encode()] for t in texts], dtype=object)

    tensors = decode_response(encode_answer("", {"y": values}), [output], len(texts), "")
    predictions = Predictions(len(texts), [output], ["y"])
    predictions.put(0, tensors)

    assert predictions.to_columns()[0][1].to_pylist() == texts


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_wrong_answer_and_nothing_worse(data):
    output = OutputTensor("y", datatype("FP32"), (1,))
    with pytest.raises(AnswerError):
        decode_response(data, [output], 3, "1")


@given(st.data(), st.integers(1, 4))
def test_a_truncated_answer_is_refused(data, rows):
    values = data.draw(arrays("FP32", (rows, 2)))
    whole = encode_answer("1", {"y": values})
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(AnswerError):
        decode_response(whole[:cut], [OutputTensor("y", datatype("FP32"), (2,))], rows, "1")


@given(st.permutations(range(4)), st.sets(st.integers(0, 3), max_size=3))
def test_predictions_take_batches_in_any_order_and_failed_rows_are_null(order, failed):
    output = OutputTensor("y", datatype("INT32"), (2,))
    predictions = Predictions(8, [output], ["y"])
    for batch in order:
        assert not predictions.complete
        if batch in failed:
            predictions.fail(batch * 2, 2, 13, "no")
        else:
            rows = np.arange(batch * 4, batch * 4 + 4, dtype=np.int32).reshape(2, 2)
            predictions.put(batch * 2, [rows])
    assert predictions.complete
    y, status, error = (array.to_pylist() for _, array in predictions.to_columns())
    for row in range(8):
        is_failed = row // 2 in failed
        assert y[row] == (None if is_failed else [row * 2, row * 2 + 1])
        assert status[row] == (13 if is_failed else 0)
        assert error[row] == ("no" if is_failed else None)


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), min_size=4, max_size=4), st.data())
def test_texts_of_batches_in_any_order_stand_in_their_rows(texts, data):
    output = OutputTensor("y", datatype("BYTES"), (2,))
    predictions = Predictions(4, [output], ["y"])
    failed = data.draw(st.integers(0, 3))
    for row in data.draw(st.permutations(range(4))):
        if row == failed:
            predictions.fail(row, 1, 13, "no")
            continue
        values = np.array([[t.encode() for t in texts[row]]], dtype=object)
        answer = decode_response(encode_answer("", {"y": values}), [output], 1, "")
        predictions.put(row, answer)
    (_, column), *_ = predictions.to_columns()
    assert column.to_pylist() == [None if row == failed else texts[row] for row in range(4)]


@pytest.mark.parametrize("kind", ["FP32", "BYTES"])
@pytest.mark.parametrize("size", [-4, 2**40])
def test_impossible_sizes_are_a_wrong_answer(kind, size):
    message = service_pb2.ModelInferResponse(raw_output_contents=[b"\0" * 8])
    message.outputs.add(name="y", datatype=kind, shape=[1, size])
    with pytest.raises(AnswerError):
        decode_response(
            message.SerializeToString(), [OutputTensor("y", datatype(kind), (-1,))], 1, ""
        )


def test_bytes_that_are_no_text_are_a_wrong_answer():
    output = OutputTensor("y", datatype("BYTES"), (1,))
    predictions = Predictions(1, [output], ["y"])
    data = encode_answer("", {"y": np.array([[b"\xff\xfe"]], dtype=object)})
    predictions.put(0, decode_response(data, [output], 1, ""))
    with pytest.raises(AnswerError, match="must be UTF-8"):
        predictions.to_columns()


@pytest.mark.parametrize("named", ["", "m", "other"])
def test_an_answer_for_another_model_is_refused(named):
    answer = service_pb2.ModelInferResponse.FromString(
        encode_answer("1", {"y": np.zeros((2, 1), np.float32)})
    )
    answer.model_name = named
    decoder = ResponseDecoder([OutputTensor("y", datatype("FP32"), (1,))], "1", "m")
    reply = Reply(answer.SerializeToString())
    if named != "other":
        assert decoder.decode(reply, 2)[0].shape == (2, 1)
        return
    with pytest.raises(AnswerError, match="for model 'other' instead of 'm'"):
        decoder.decode(reply, 2)

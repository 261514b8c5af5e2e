"""Codec: tensors ↔ the bytes of Triton's gRPC messages ↔ prediction columns. Pure, no I/O.

Only the stubs of the protocol (the protobuf messages of tritonclient) are used, none of
tritonclient's per-request objects: they copy every payload several times.
"""

from tritonbulk.codec.predictions import Predictions, prediction_field
from tritonbulk.codec.request import EncodableRows, RawTensor, Request, RequestEncoder
from tritonbulk.codec.response import Answer, Reply, ResponseDecoder, head

__all__ = [
    "Answer",
    "EncodableRows",
    "Predictions",
    "RawTensor",
    "Reply",
    "Request",
    "RequestEncoder",
    "ResponseDecoder",
    "head",
    "prediction_field",
]

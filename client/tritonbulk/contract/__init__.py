"""The contract: what a model entry promises about its tensors and the file columns that feed them.

It is written by export, travels as ``contract.json`` beside the model and, compact, in the
``parameters`` of ``config.pbtxt``, and is applied by whoever feeds the model: ``schema`` is its
form, ``datatypes`` the types it speaks of, ``binding`` makes one from a mapping, ``gather`` turns
columns into tensors by it (``widths`` says where values stand, ``exact`` what they become). All of
it is pure: no file, no network, no clock.
"""

from tritonbulk.contract.binding import bind_inputs, check_columns, parse_input_map
from tritonbulk.contract.datatypes import Datatype, datatype
from tritonbulk.contract.gather import gather, gather_numbers, gather_texts
from tritonbulk.contract.schema import (
    CONTRACT_FORMAT,
    CONTRACT_PARAMETER,
    Column,
    Contract,
    InputTensor,
    OutputTensor,
    tensors_to_plain,
)
from tritonbulk.contract.sizes import prediction_row_bytes, row_bytes
from tritonbulk.contract.widths import element_type

__all__ = [
    "CONTRACT_FORMAT",
    "CONTRACT_PARAMETER",
    "Column",
    "Contract",
    "Datatype",
    "InputTensor",
    "OutputTensor",
    "bind_inputs",
    "check_columns",
    "datatype",
    "element_type",
    "gather",
    "gather_numbers",
    "gather_texts",
    "parse_input_map",
    "prediction_row_bytes",
    "row_bytes",
    "tensors_to_plain",
]

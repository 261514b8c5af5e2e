"""A warm process whose children publish: each stops itself first, so that strace can attach.

    python -m tests.crash.publisher     reads one JSON object a line: see `Order`

Each child is told of by a line with its process id, and its end by a line with its code.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper

from tritonbulk.contract import Column, Contract, InputTensor, OutputTensor, datatype
from tritonbulk_export.content import Content
from tritonbulk_export.golden import golden_file
from tritonbulk_export.publish import publish
from tritonbulk_export.rollback import rollback
from tritonbulk_export.serving import BatchSize, Serving

ROWS = np.arange(4, dtype=np.float32).reshape(4, 1)


@dataclass(frozen=True)
class Order:
    """One thing to do.

    Attributes:
        do: ``publish``, ``tune`` (other serving of the same model) or ``rollback``.
        repository: folder.
        name: of the entry.
        factor: that the model multiplies by.
        minute: of the version.
        stop: whether the child stops itself before it begins.
    """

    do: str
    repository: str
    name: str
    factor: float
    minute: int = 0
    stop: bool = False

    def carry_out(self) -> None:
        """Do it."""
        if self.do == "rollback":
            rollback(Path(self.repository), self.name)
            return
        serving = Serving(instances=2) if self.do == "tune" else Serving()
        content = content_of(self.name, self.factor, serving)
        publish(content, Path(self.repository), datetime(2026, 11, 23, 7, self.minute, tzinfo=UTC))


def content_of(name: str, factor: float, serving: Serving) -> Content:
    """Return a model that multiplies by ``factor``, as content with golden rows and warm-up."""
    ports = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["n", 1]) for each in "xy"]
    weights = [numpy_helper.from_array(np.array([factor], np.float32), "w")]
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    outputs = (OutputTensor("y", datatype("FP32"), (1,)),)
    contract = Contract(
        model=name,
        digest="sha256:" + hashlib.sha256(model).hexdigest(),
        inputs=(InputTensor("x", datatype("FP32"), (1,), (Column("x"),)),),
        outputs=outputs,
    )
    golden = golden_file(pa.table({"x": ROWS[:, 0]}), outputs, {"y": ROWS * np.float32(factor)})
    batch = BatchSize(8, "so", is_asked=False)
    files = {"model.onnx": model}
    return Content(
        contract, files, golden, batch, serving, tensors={"x": ROWS}, labels={"y": ("a",)}
    )


def main() -> None:
    """Carry out orders, each in a child, until stdin ends."""
    for line in sys.stdin:
        order = Order(**json.loads(line))
        pid = os.fork()
        if not pid:
            code = 1
            try:
                if order.stop:
                    os.kill(os.getpid(), signal.SIGSTOP)
                order.carry_out()
                code = 0
            finally:
                os._exit(code)
        print(pid, flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(code, flush=True)


def line_of(order: Order) -> str:
    """Return an order as a line of JSON."""
    return json.dumps(asdict(order)) + "\n"


if __name__ == "__main__":
    main()

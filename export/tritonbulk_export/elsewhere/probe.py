"""Run by path in a process of its own: one model in one ONNX Runtime, inputs in, answers out.

Imports nothing of ours: only the folder it is told of, and NumPy.

Usage: ``probe.py FOLDER VERSION MODEL INPUTS.npz ANSWERS.npz``
"""

import sys

import numpy as np


def main(folder: str, version: str, model: str, inputs: str, answers: str) -> None:
    """Write the answers of ``model`` to ``inputs``; texts stand as NumPy's own strings."""
    sys.path.insert(0, folder)
    import onnxruntime  # noqa: PLC0415

    if onnxruntime.__version__ != version:
        raise SystemExit(f"found ONNX Runtime {onnxruntime.__version__}, not {version}")
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    with np.load(inputs, allow_pickle=False) as given:
        feed = {
            name: tensor.astype(object) if tensor.dtype.kind == "U" else tensor
            for name, tensor in given.items()
        }
    found = session.run(None, feed)
    names = [node.name for node in session.get_outputs()]
    plain = [array.astype(str) if array.dtype == object else array for array in found]
    np.savez(answers, **dict(zip(names, plain, strict=True)))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        raise SystemExit(str(error).splitlines()[0]) from None

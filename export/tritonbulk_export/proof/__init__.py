"""Proof of the batch: a row's answer does not depend on the rows beside it.

The batch can be baked into a graph, or rows can leak into each other (a softmax over the batch,
say). Neither shows in a single prediction, and Triton's dynamic batching puts together whatever
requests happen to wait, so both would be wrong answers at random.

`rows` chooses rows that can show it, `batch` shows it, `blame` finds the node that does it.
"""

from tritonbulk_export.proof.batch import prove_batch

__all__ = ["prove_batch"]

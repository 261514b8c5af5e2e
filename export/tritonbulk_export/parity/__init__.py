"""Parity: the graph gives the source model's answers to every sample row. Fails closed.

`figures` are what is measured (pure, one pass), `ranking` what labels tell (pure), `compare` runs
both models, `nulls` tries NaN, `record` is what the contract keeps. What is allowed stands in
`limits`.
"""

from tritonbulk_export.parity.compare import compare, fitting, gathered
from tritonbulk_export.parity.nulls import proved_nulls
from tritonbulk_export.parity.record import stored

__all__ = ["compare", "fitting", "gathered", "proved_nulls", "stored"]

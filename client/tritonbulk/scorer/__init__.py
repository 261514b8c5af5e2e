"""Scorer: rows of other programs in, the same rows with their predictions out.

``config`` is what travels to other processes; ``work`` is a scorer at work, one thread with an
event loop of its own; ``pool`` keeps those of a process; ``flow`` is the order in which batches go
in and out; ``scorer`` puts these together. How rows are sent, and what is done about faults, is
`tritonbulk.reach`.
"""

from tritonbulk.scorer.scorer import Scorer, score_batches, score_batches_async

__all__ = ["Scorer", "score_batches", "score_batches_async"]

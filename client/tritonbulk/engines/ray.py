"""Ray Data: a class for ``map_batches``, and a processor in the style of ``ray.data.llm``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray.data

from tritonbulk.errors import OptionError
from tritonbulk.scorer import Scorer

BATCH_ROWS = 16_384
"""Rows of a batch of Ray's unless told otherwise; an actor cuts it into requests."""

ACTOR_CPUS = 0.5
"""Processors that an actor reserves: it encodes and waits; a whole one each would keep Ray from
reading on small machines."""


class TritonScorer:
    """Scores batches in an actor, many requests at once; for ``Dataset.map_batches``.

    ::

        dataset.map_batches(
            TritonScorer,
            fn_constructor_args=(Scorer("flight_delay", endpoints=["gpu1:8001"]).pinned(),),
            batch_format="pyarrow",
            batch_size=16_384,
            compute=ray.data.ActorPoolStrategy(size=2),
        )

    Args:
        model: a `Scorer`, best one that is `pinned`; or the model's name, and then actors that
            start at different times may find different models.
        options: as `Scorer` takes them, ``endpoints`` among them.
    """

    def __init__(self, model: str | Scorer, **options: Any) -> None:
        self._scorer = model if isinstance(model, Scorer) else Scorer(model, **options)

    async def __call__(self, batch: pa.Table) -> pa.Table:
        """Return a batch scored; Ray awaits several at once and keeps their order.

        Raises:
            TritonbulkError: what would stop `tritonbulk.score`; see its class.
        """
        return await self._scorer.score_async(batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonProcessorConfig:
    """What `build_triton_processor` makes a processor of.

    Attributes:
        model: the model's name.
        endpoints: as `Scorer` takes them.
        batch_size: rows of a batch.
        concurrency: actors; (least, most) lets Ray choose.
        num_cpus: processors that each reserves.
        options: what else `Scorer` takes: ``keep``, ``input_map``, ``header_env`` …
    """

    model: str
    endpoints: str | Sequence[str] | Mapping[str, str | Sequence[str]]
    batch_size: int = BATCH_ROWS
    concurrency: int | tuple[int, int] = 1
    num_cpus: float = ACTOR_CPUS
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning.

        Raises:
            OptionError: a retry does not help.
        """
        least, most = self.actors
        if not (1 <= least <= most and self.batch_size >= 1 and self.num_cpus >= 0):
            raise OptionError(
                f"concurrency {self.concurrency}, batch_size {self.batch_size} and num_cpus "
                f"{self.num_cpus} are not all positive; give for example 2, 16384 and 0.5"
            )

    @property
    def actors(self) -> tuple[int, int]:
        """The least and the most actors."""
        given = self.concurrency
        return (given, given) if isinstance(given, int) else given


Processor = Callable[[ray.data.Dataset], ray.data.Dataset]
"""Turns a dataset into one with predictions; nothing is executed before it is read."""

Row = dict[str, Any]


def build_triton_processor(
    config: TritonProcessorConfig,
    preprocess: Callable[[Row], Row] | None = None,
    postprocess: Callable[[Row], Row] | None = None,
) -> Processor:
    """Return a processor that scores a dataset, as ``ray.data.llm.build_processor`` returns one.

    Which model is served is looked up when the processor is applied; every actor then insists on
    it, so that one dataset is never scored by two.

    Args:
        config: of the model, its servers and the actors.
        preprocess: row → row, before scoring. A Python call a row: where that is too slow, use
            ``map_batches`` before and after instead.
        postprocess: row → row, after scoring.

    Raises:
        OptionError: the configuration has no meaning; a retry does not help.
    """
    scorer = Scorer(config.model, endpoints=config.endpoints, **config.options)

    def process(dataset: ray.data.Dataset) -> ray.data.Dataset:
        if preprocess is not None:
            dataset = dataset.map(preprocess)
        dataset = map_dataset(dataset, scorer.pinned(), config)
        return dataset if postprocess is None else dataset.map(postprocess)

    return process


def map_dataset(
    dataset: ray.data.Dataset, scorer: Scorer, config: TritonProcessorConfig
) -> ray.data.Dataset:
    """Return a dataset scored by actors as configured."""
    least, most = config.actors
    return dataset.map_batches(
        TritonScorer,
        fn_constructor_args=(scorer,),
        batch_format="pyarrow",
        batch_size=config.batch_size,
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
        num_cpus=config.num_cpus,
    )

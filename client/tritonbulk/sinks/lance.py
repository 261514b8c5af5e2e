"""Lance and LanceDB: fragments written first, then one commit of them and of the job's progress.

An append of Lance goes through whatever others have done meanwhile, and carries no condition. So
the commit is a merge, which replaces the list of fragments of just the version that was read, and
which no other commit passes by. The note stands in the metadata of the schema.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tritonbulk.errors import OutputError, PlatformError, SinkError
from tritonbulk.job.stores.object import is_endpoint_plain
from tritonbulk.redaction import hide_in_uri
from tritonbulk.sinks import lake
from tritonbulk.sinks.base import RECORD, Portion, RivalError, check_turn, reading
from tritonbulk.sinks.columns import fit
from tritonbulk.sinks.sql import first_line


class LanceSink:
    """A Lance data set, as LanceDB's tables are; see `tritonbulk.sinks.base.Sink` for the methods.

    Args:
        place: folder or URI; table ``t`` of the LanceDB ``db`` is ``db/t.lance``.

    Raises:
        PlatformError: pylance is not installed.
    """

    def __init__(self, place: str) -> None:
        try:
            import lance  # noqa: PLC0415  optional
            import lance.commit  # noqa: PLC0415
            import lance.schema  # noqa: PLC0415
        except ImportError:
            raise PlatformError(
                "publishing to Lance needs its package; pip install 'tritonbulk[lance]'"
            ) from None
        hide_in_uri(place)
        self._lance: Any = lance
        self._place = place
        self._options = {"allow_http": "true"} if is_endpoint_plain() else None
        self.name = f"Lance data set {place.partition('?')[0]}"

    def prepare(self, schema: pa.Schema) -> None:
        """See `Sink.prepare`."""
        fitted = fit(schema, _rule, "Lance")
        try:
            there = self._open().schema
        except ValueError:  # there is none
            there = self._made(fitted)
        lake.check_columns(there, fitted, self.name)
        if len(there) != len(fitted):
            raise OutputError(f"{self.name} has columns that the parts have not; give another")
        if not self._is_plain(self._open()):
            raise OutputError(f"{self.name} has lost columns since it was made; give another")

    def published(self, job: str) -> int | None:
        """See `Sink.published`."""
        try:
            return _at(self._open(), job)
        except (ValueError, OSError) as error:
            raise self._failed(error) from error

    def append(self, portion: Portion) -> None:
        """See `Sink.append`."""
        lance = self._lance
        fitted = fit(portion.schema, _rule, "Lance")
        try:
            found = self._open()
            check_turn(_at(found, portion.job), portion, self.name)
            fragments = [each.metadata for each in found.get_fragments()]
            if portion.rows:
                with reading(portion, fitted) as rows:
                    fragments += lance.fragment.write_fragments(
                        rows, found, mode="append", storage_options=self._options
                    )
            note = {**(found.schema.metadata or {}), _key(portion.job): str(portion.end)}
            schema = lance.schema.LanceSchema.from_pyarrow(found.schema.with_metadata(note))
            lance.LanceDataset.commit(
                found,
                lance.LanceOperation.Merge(fragments, schema),
                read_version=found.version,
                max_retries=0,
                storage_options=self._options,
            )
        except lance.commit.CommitConflictError as error:
            raise RivalError(f"another run has changed {self.name} meanwhile; run again") from error
        except (ValueError, OSError) as error:
            raise self._failed(error) from error

    def _is_plain(self, dataset: Any) -> bool:
        """Return whether the numbers of the columns are those that their order gives.

        A merge tells columns by number, and a schema of Arrow carries none.
        """
        numbered = self._lance.schema.LanceSchema.from_pyarrow(dataset.schema).fields()
        return bool(numbered == dataset.lance_schema.fields())

    def _open(self) -> Any:
        return self._lance.dataset(self._place, storage_options=self._options)

    def _made(self, fitted: pa.Schema) -> pa.Schema:
        try:
            self._lance.write_dataset(
                fitted.empty_table(), self._place, mode="create", storage_options=self._options
            )
        except OSError as error:  # another run may have made it
            try:
                return self._open().schema
            except ValueError:
                raise self._failed(error) from error
        return fitted

    def _failed(self, error: Exception) -> SinkError:
        return SinkError(f"{self.name} failed ({first_line(error)}); check it, then run again")


def _at(dataset: Any, job: str) -> int | None:
    found = (dataset.schema.metadata or {}).get(_key(job).encode())
    return None if found is None else int(found)


def _key(job: str) -> str:
    return f"{RECORD}.{job}"


def _rule(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_map(kind):
        return None
    return pa.string() if pa.types.is_null(kind) else kind

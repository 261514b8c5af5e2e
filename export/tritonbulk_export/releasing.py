"""Publication and rollback with a running server: what its golden rows fail is taken back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tritonbulk.errors import TritonbulkError
from tritonbulk_export.content import Content
from tritonbulk_export.loading import check_golden, load_version, served_versions, unload
from tritonbulk_export.loading import load as load_on
from tritonbulk_export.publish import Published, publish
from tritonbulk_export.rollback import RolledBack, retract
from tritonbulk_export.rollback import rollback as roll_back
from tritonbulk_export.serving import LoadTarget


@dataclass(frozen=True, slots=True)
class Release:
    """A publication, and what a server made of it.

    Attributes:
        published: what was done to the repository.
        golden_rows: that the server answered rightly; None where none was named.
    """

    published: Published
    golden_rows: int | None = None


def release(
    content: Content,
    repository: Path,
    now: datetime,
    staging: Path | None,
    target: LoadTarget | None,
) -> Release:
    """Publish, and let the server load the version and score its golden rows.

    Raises:
        TritonbulkError: as `publish.publish`, `loading.load_version` and `loading.check_golden`.
            A server that does not answer is an error before anything is published. If it fails
            later, what was published is taken back, and the server told to load what was there
            before.
    """
    if target is None:
        return Release(publish(content, repository, now, staging))
    model = content.contract.model
    served = served_versions(target, model)
    published = publish(content, repository, now, staging)
    try:
        if published.is_served:
            load_version(target, model, published.version)
        else:
            load_on(target, model)
        rows = check_golden(target, repository / model, published.version, published.max_batch_size)
    except TritonbulkError as error:
        if not published.changed:
            raise
        retract(repository, model, published, staging)
        raise type(error)(f"{error}; {_restore(target, model, published, served)}") from error
    return Release(published, rows)


def _restore(target: LoadTarget, model: str, published: Published, served: tuple[int, ...]) -> str:
    """Tell the server about a version that was taken back, and return what became of it.

    A model that the server had before, from whichever repository, is never unloaded.
    """
    said = f"version {published.version} was taken back"
    try:
        if published.before or served:
            load_on(target, model)
            return f"{said}, and the server loaded what was there before"
        unload(target, model)
    except TritonbulkError as error:
        return f"{said}, but the server did not follow ({error})"
    return f"{said}, and the server unloaded the model"


def rollback(
    model: str,
    *,
    repository: Path | str,
    version: int | None = None,
    staging: Path | str | None = None,
    load: LoadTarget | None = None,
) -> RolledBack:
    """Serve another version of an entry again, as it was published.

    Args:
        model: name of the entry.
        repository: the model repository.
        version: to serve; None: the newest below the one that is served.
        staging: where files are put together; None: beside the repository.
        load: a running server that then loads it and scores its golden rows.

    Raises:
        TritonbulkError: as `rollback.rollback` and `loading.check_golden`. If the server fails, the
            entry stays rolled back: it is what was asked for.
    """
    folder = Path(repository)
    done = roll_back(folder, model, version, None if staging is None else Path(staging))
    if load is not None:
        load_version(load, model, done.version)
        rows = check_golden(load, folder / model, done.version, done.max_batch_size)
        done = replace(done, golden_rows_loaded=rows)
    return done

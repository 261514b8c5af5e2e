"""Plans that a kit built, published as an entry of the TensorRT backend.

The ONNX entry stays as it is and is what one falls back to; the plans stand beside it under a name
of their own, one for each compute capability, and Triton picks the one that fits its GPU.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tritonbulk.contract import Contract
from tritonbulk.errors import InputError, ModelError, OutputError
from tritonbulk_export.config import Plans
from tritonbulk_export.content import Content
from tritonbulk_export.entry_files import GOLDEN_FILE
from tritonbulk_export.publish import Published
from tritonbulk_export.releasing import release
from tritonbulk_export.serving import BatchSize, LoadTarget
from tritonbulk_export.spec import DEFAULT_REPOSITORY
from tritonbulk_export.storage import files_digest
from tritonbulk_export.tensorrt.kit import KIT_FILE, KIT_FORMAT

SUFFIX = ".trt"


@dataclass(frozen=True, slots=True)
class PublishedPlans:
    """What was published.

    Attributes:
        entry: of the plans.
        version: of them.
        compute_capabilities: that there is a plan for.
        tensorrt: that built them.
        published: False if the very same plans were there.
    """

    entry: Path
    version: int
    compute_capabilities: tuple[str, ...]
    tensorrt: str
    published: bool


def publish_plans(
    kit: Path | str,
    *,
    repository: Path | str = DEFAULT_REPOSITORY,
    name: str | None = None,
    staging: Path | str | None = None,
    load: LoadTarget | None = None,
) -> PublishedPlans:
    """Publish the plans in a kit's folder and return what was done.

    Args:
        kit: the folder, after ``build_plan.py`` ran in it on one GPU or several.
        repository: where the entry of the model is, and where that of the plans goes.
        name: of the entry of the plans; None: that of the model and ``.trt``.
        staging: see `publish.publish`.
        load: see `releasing.release`.

    Raises:
        InputError: there is no judged plan, or one is damaged, or of another TensorRT. No retry.
        OutputError: the repository has no such model, or another version of it. No retry.
        TritonbulkError: as `publish.publish`.
    """
    folder, repository = Path(kit), Path(repository)
    description = _description(folder)
    stamps = _stamps(folder, description)
    (tensorrt,) = {stamp["tensorrt"] for stamp in stamps.values()}
    files = {f"model.plan.{path.parent.name}": path.read_bytes() for path in stamps}
    by_capability = {
        stamp["compute_capability"]: f"model.plan.{path.parent.name}"
        for path, stamp in stamps.items()
    }
    version_folder = repository / description["model"] / str(description["version"])
    golden = version_folder / GOLDEN_FILE
    if not golden.is_file():
        raise OutputError(
            f"{version_folder} is not there any more; publish plans beside the model they are of"
        )
    model = Contract.from_json(json.dumps(description["contract"]))
    contract = replace(
        model,
        model=name or model.model + SUFFIX,
        digest=files_digest(files),
        source=f"TensorRT {tensorrt} of {model.model} {description['version']}",
    )
    content = Content(
        contract=contract,
        files=files,
        golden=golden.read_bytes(),
        batch=BatchSize(description["max_batch_size"], "the most rows of a profile"),
        plans=Plans(by_capability, description["profiles"]),
    )
    place = None if staging is None else Path(staging)
    done: Published = release(content, repository, datetime.now(UTC), place, load).published
    return PublishedPlans(
        entry=repository / contract.model,
        version=done.version,
        compute_capabilities=tuple(sorted(by_capability)),
        tensorrt=tensorrt,
        published=done.changed,
    )


def _description(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / KIT_FILE).read_text(encoding="utf-8"))
        if found["format"] == KIT_FORMAT:
            description: Mapping[str, Any] = found
            return description
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder} is no kit ({error}); make one with export tensorrt kit"
        ) from error
    raise InputError(f"{folder} is a kit of another release of tritonbulk; make it again")


def _stamps(folder: Path, description: Mapping[str, Any]) -> dict[Path, Mapping[str, Any]]:
    """Return the judged plans of a kit and what is said of each."""
    found: dict[Path, Mapping[str, Any]] = {}
    for path in sorted((folder / "plans").glob("sm*/plan.json")):
        plan = path.with_name("model.plan")
        try:
            stamp = json.loads(path.read_text(encoding="utf-8"))
            digest = hashlib.sha256(plan.read_bytes()).hexdigest()
            is_whole = stamp["sha256"] == digest and stamp["digest"] == description["digest"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} cannot be read ({error}); build the plan again") from error
        if not is_whole or stamp["build"] != description["build"]:
            raise InputError(f"{plan} is not of this kit, or damaged; build it again")
        found[plan] = stamp
    if not found:
        raise InputError(f"{folder} holds no plan that was judged; run build_plan.py on a GPU node")
    versions = {stamp["tensorrt"] for stamp in found.values()}
    if len(versions) > 1:
        raise ModelError(
            f"the plans are of TensorRT {', '.join(sorted(versions))}, and a server has one; build "
            "them all in one release's container"
        )
    return found

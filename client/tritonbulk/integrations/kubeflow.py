"""Kubeflow Pipelines: a component that scores in the scorer's image.

score = score_component("registry/tritonbulk-scorer:0.1.0")

@dsl.pipeline
def nightly(day: str):
score(inputs="s3://lake/flights/", model="flight_delay", endpoint="triton:8001",
out="s3://lake/scored/").set_retry(3)
"""

# Without `from __future__ import annotations`: kfp looks at the annotations of functions.
from typing import Any

from kfp import dsl

_SCRIPT = """
set -f
code=0
tritonbulk score "$0" --model "$1" --endpoint "$2" --out "$3" $5 || code=$?
[ "$code" -le 1 ] || exit "$code"
tritonbulk status "$3"
mkdir -p "$(dirname "$4")"
printf %s "${3%/}/_tritonbulk/manifest.json" > "$4"
"""
"""Exit code 1 is that of a finished job of which some rows failed, and of a program that could not
begin: ``status`` tells them apart. Words of ``$5`` are no patterns of files."""


def score_component(image: str) -> Any:
    """Return a component whose output ``manifest`` is the path of the job's manifest.

    Its parameters: ``inputs`` (file, folder, pattern or URI), ``model``, ``endpoint``, ``out``, and
    ``options``, more words of ``tritonbulk score``. A retry goes on where the last try ended.

    Args:
        image: that has ``tritonbulk`` and a shell.
    """

    @dsl.container_component
    def tritonbulk_score(
        inputs: str,
        model: str,
        endpoint: str,
        out: str,
        manifest: dsl.OutputPath(str),  # type: ignore[valid-type]
        options: str = "",
    ) -> dsl.ContainerSpec:
        return dsl.ContainerSpec(
            image=image,
            command=["sh", "-ec", _SCRIPT],
            args=[inputs, model, endpoint, out, manifest, options],
        )

    return tritonbulk_score

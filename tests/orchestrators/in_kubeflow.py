"""Compile a pipeline of the component; print its container as one JSON object."""

import json
import sys
from pathlib import Path

import yaml
from kfp import compiler, dsl

from tritonbulk.integrations.kubeflow import score_component

spec = json.loads(Path(sys.argv[1]).read_text())
score = score_component("registry/tritonbulk-scorer:0.1.0")


@dsl.pipeline
def nightly(rows: str, out: str):
    done = score(
        inputs=rows, model=spec["model"], endpoint=spec["options"]["endpoint"], out=out,
        options="--input-map x=a,b,c,d",
    ).set_retry(3)  # fmt: skip
    del done


target = f"{spec['home']}/pipeline.yaml"
compiler.Compiler().compile(nightly, target)
(pipeline,) = [each for each in yaml.safe_load_all(Path(target).read_text()) if "root" in each]
(executor,) = pipeline["deploymentSpec"]["executors"].values()
(task,) = pipeline["root"]["dag"]["tasks"].values()
print(json.dumps({"container": executor["container"], "retry": task["retryPolicy"]}))

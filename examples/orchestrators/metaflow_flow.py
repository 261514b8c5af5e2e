r"""Metaflow: one job a partition, in parallel; a retry goes on where the last try ended.

python examples/orchestrators/metaflow_flow.py run --inputs data/days --model flight_delay \
        --out out/days --endpoint 127.0.0.1:8001
"""

from pathlib import Path
from typing import Any

from metaflow import FlowSpec, JSONType, Parameter, retry, step

from tritonbulk.integrations.command import ScoreCommand, run


class ScoreDays(FlowSpec):
    """Scores every file of a folder into an output of its own."""

    inputs = Parameter("inputs", help="folder with one file a day")
    model = Parameter("model")
    out = Parameter("out")
    endpoint = Parameter("endpoint")
    options = Parameter("options", type=JSONType, default="{}", help="more options, as JSON")

    @step
    def start(self) -> None:
        """List the files."""
        self.files = sorted(map(str, Path(self.inputs).glob("*.parquet")))
        self.next(self.score, foreach="files")

    @retry(times=3, minutes_between_retries=0)
    @step
    def score(self) -> None:
        """Score one file."""
        out = f"{self.out}/{Path(self.input).stem}"
        command = ScoreCommand(
            [self.input], self.model, out, {"endpoint": self.endpoint, **self.options}
        )
        self.result, self.manifest = run(command), command.manifest
        self.next(self.join)

    @step
    def join(self, scored: Any) -> None:
        """Collect the manifests."""
        self.manifests = [each.manifest for each in scored]
        self.rows = sum(each.result["job_rows"] for each in scored)
        self.next(self.end)

    @step
    def end(self) -> None:
        """Tell what was scored."""
        print(f"{self.rows} rows in {len(self.manifests)} outputs")


if __name__ == "__main__":
    ScoreDays()

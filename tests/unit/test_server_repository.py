from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tritonbulk.errors import InputError, ModelError, UsageError
from tritonbulk.server import repository
from tritonbulk.server.overrides import Overrides, override

GPU = """
instance_group { kind: KIND_GPU gpus: 0 }
optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }
"""


def overridden(text: str, overrides: Overrides) -> str:
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    override(config, overrides)
    return str(text_format.MessageToString(config, as_one_line=True))


def entry(folder: Path, name: str, config: str | None) -> Path:
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "1" / "model.onnx").write_bytes(b"model")
    if config is not None:
        (folder / name / "config.pbtxt").write_text(config)
    return folder / name


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ("", Overrides(instances=2), "instance_group { count: 2 }"),
        (
            "instance_group { count: 1 kind: KIND_CPU }",
            Overrides(instances=2),
            "instance_group { count: 2 kind: KIND_CPU }",
        ),
        ("max_batch_size: 8", Overrides(cpu=True), "max_batch_size: 8"),
        (
            "max_batch_size: 8 dynamic_batching { preferred_batch_size: [4, 8] }",
            Overrides(max_batch_size=4),
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: 4 }",
        ),
        (
            "dynamic_batching { }",
            Overrides(queue_delay_us=7),
            "dynamic_batching { max_queue_delay_microseconds: 7 }",
        ),
        ("dynamic_batching { }", Overrides(queue_delay_us=-1), ""),
        (
            "instance_group { kind: KIND_GPU gpus: 0 }",
            Overrides(cpu=True),
            "instance_group { kind: KIND_CPU }",
        ),
    ],
)
def test_an_override_changes_what_it_names_and_no_more(
    text: str, overrides: Overrides, expected: str
) -> None:
    assert overridden(text, overrides) == expected


def test_cpu_leaves_gpu_accelerators_out() -> None:
    assert "tensorrt" not in overridden(GPU, Overrides(cpu=True))


def test_without_overrides_the_repository_itself_is_served(tmp_path: Path) -> None:
    entry(tmp_path, "m", None)
    view = repository.private_view(tmp_path, tmp_path / "view", Overrides(), print)
    assert view == tmp_path
    assert not (tmp_path / "view").exists()


def test_a_view_has_edited_configurations_and_links_for_the_rest(tmp_path: Path) -> None:
    models = tmp_path / "models"
    bare = entry(models, "bare", None)
    ensemble = entry(models, "ensemble", 'platform: "ensemble"')
    broken = entry(models, "broken", "max_batch_size: :")
    view = repository.private_view(models, tmp_path / "view", Overrides(instances=2), print)
    assert (view / "bare" / "config.pbtxt").read_text().split() == [
        "instance_group",
        "{",
        "count:",
        "2",
        "}",
    ]
    assert (view / "bare" / "1").resolve() == bare / "1"
    assert (view / "ensemble").resolve() == ensemble
    assert (view / "broken").resolve() == broken
    assert not (bare / "config.pbtxt").exists()


def test_a_gpu_entry_matters_only_if_it_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "has_gpu", lambda: False)
    entry(tmp_path, "gpu", GPU)
    entry(tmp_path, "other", None)
    repository.check_kinds(tmp_path, ["other"], Overrides())
    repository.check_kinds(tmp_path, None, Overrides(cpu=True))
    for models in (None, ["gpu"]):
        with pytest.raises(UsageError, match=r"'gpu' .* add --cpu"):
            repository.check_kinds(tmp_path, models, Overrides())


def test_mistakes_are_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no model entry"):
        repository.check_models(tmp_path, None)
    with pytest.raises(InputError, match="No such file"):
        repository.check_models(tmp_path / "nowhere", None)
    entry(tmp_path, "m", None)
    with pytest.raises(ModelError, match="has no model 'n'; it has m"):
        repository.check_models(tmp_path, ["n"])
    repository.check_models(tmp_path, ["m"])

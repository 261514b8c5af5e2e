"""Hugging Face transformers: tiny models of random weights, from local folders."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip(
    "transformers", reason="transformers is not installed: make test-export-frameworks runs it"
)
pytest.importorskip("torch", reason="torch is not installed: make test-export-frameworks runs it")

import torch
import transformers

from tritonbulk.contract import Contract
from tritonbulk.errors import ContractError, InputError
from tritonbulk_export import export_transformers

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS, TOKENS = 200, 16


@pytest.fixture
def tokens(target):
    """The target, with a sample of tokens."""
    random = np.random.default_rng(0)
    mask = (np.arange(TOKENS) < random.integers(3, TOKENS + 1, (ROWS, 1))).astype(np.int64)
    ids = random.integers(5, 60, (ROWS, TOKENS)) * mask
    table = pa.table(
        {"input_ids": ids.tolist(), "attention_mask": mask.tolist(), "text": ["x"] * ROWS}
    )
    pq.write_table(table, "rows.parquet")
    return target


@pytest.fixture
def bert():
    torch.manual_seed(0)
    return transformers.BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=TOKENS, num_labels=3,
    )  # fmt: skip


def contract(done):
    return Contract.from_json((done.entry / "contract.json").read_text())


def test_a_classifier_gives_logits_of_its_own_class(tokens, bert):
    transformers.BertForSequenceClassification(bert).save_pretrained("bert")
    done = export_transformers("bert", **tokens)
    found = contract(done)
    assert [(t.name, t.datatype.name, t.shape) for t in found.inputs] == [
        ("input_ids", "INT64", (TOKENS,)),
        ("attention_mask", "INT64", (TOKENS,)),
    ]
    assert [(t.name, t.shape) for t in found.outputs] == [("logits", (3,))]
    assert done.parity.rows == ROWS


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooling_gives_one_vector_a_row(tokens, bert, pooling):
    transformers.BertModel(bert).save_pretrained("bert")
    done = export_transformers("bert", pooling=pooling, **tokens)
    assert [(t.name, t.shape) for t in contract(done).outputs] == [("sentence_embedding", (32,))]


def test_the_length_can_stay_open(tokens, bert):
    transformers.BertModel(bert).save_pretrained("bert")
    shapes = ["input_ids=-1", "attention_mask=-1"]
    done = export_transformers("bert", input_shape=shapes, outputs=["pooler_output"], **tokens)
    assert [t.shape for t in contract(done).inputs] == [(-1,), (-1,)]
    assert [t.name for t in contract(done).outputs] == ["pooler_output"]


def test_weights_that_are_missing_are_not_made_up(tokens, bert):
    transformers.BertModel(bert).save_pretrained("bert")
    path = "bert/config.json"
    with open(path) as file:  # noqa: PTH123
        text = file.read()
    with open(path, "w") as file:  # noqa: PTH123
        file.write(text.replace('"BertModel"', '"BertForSequenceClassification"'))
    with pytest.raises(InputError, match="lacks 2 weights"):
        export_transformers("bert", **tokens)


def test_a_sample_without_tokens_and_a_folder_without_a_model_are_refused(tokens, bert):
    with pytest.raises(InputError, match=r"no config\.json"):
        export_transformers("nothing", **tokens)
    transformers.BertModel(bert).save_pretrained("bert")
    pq.write_table(pa.table({"text": ["x"] * ROWS}), "rows.parquet")
    with pytest.raises(ContractError, match="tokenizer"):
        export_transformers("bert", **tokens)

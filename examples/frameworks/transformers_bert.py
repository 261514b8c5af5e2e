"""Hugging Face transformers: a tiny BERT, made here, that answers to 12,000 short texts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from examples.frameworks.example import Example, main

# Nothing is downloaded.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import tokenizers
import torch
import transformers

ROWS = 12_000
TOKENS = 24
WORDS = (
    *("the", "parcel", "came", "late", "broken", "early", "whole", "again", "today", "service"),
    *("was", "kind", "rude", "quick", "slow", "and", "i", "am", "very", "not", "happy", "angry"),
    *("with", "it", "send", "back", "please", "thanks"),
)


def texts() -> list[str]:
    """Return short reviews, the same ones for everybody."""
    random = np.random.default_rng(3)
    return [" ".join(random.choice(WORDS, random.integers(3, 20))) for _ in range(ROWS)]


def tokenized(reviews: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return ``input_ids`` and ``attention_mask``, each ``[rows, TOKENS]`` int64."""
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", *WORDS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", vocabulary["[CLS]"])]
    )
    tokenizer.enable_padding(length=TOKENS)
    tokenizer.enable_truncation(TOKENS)
    encoded = tokenizer.encode_batch(reviews)
    return np.array([e.ids for e in encoded]), np.array([e.attention_mask for e in encoded])


def make(folder: Path) -> Example:
    """Make a model of random weights, and tokens for it."""
    ids, mask = tokenized(texts())
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=TOKENS, initializer_range=0.1,
        id2label={0: "bad", 1: "fine", 2: "good"}, label2id={"bad": 0, "fine": 1, "good": 2},
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(folder / "model")
    table = pa.table(
        {
            name: pa.FixedSizeListArray.from_arrays(pa.array(tokens.ravel()), TOKENS)
            for name, tokens in (("input_ids", ids), ("attention_mask", mask))
        }
    )
    pq.write_table(table, folder / "rows.parquet", compression="zstd")
    logits = []
    with torch.inference_mode():
        for start in range(0, ROWS, 1000):
            batch = slice(start, start + 1000)
            answer = model(
                input_ids=torch.from_numpy(ids[batch]),
                attention_mask=torch.from_numpy(mask[batch]),
            )
            logits.append(answer.logits.numpy())
    return Example(
        "reviews_bert",
        ("transformers", str(folder / "model")),
        folder / "rows.parquet",
        {"logits": np.concatenate(logits)},
    )


if __name__ == "__main__":
    main(make)

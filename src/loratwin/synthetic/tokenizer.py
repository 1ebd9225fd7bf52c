"""A byte-level BPE tokenizer of any vocabulary size, trained on made-up text; the same one every time."""

from __future__ import annotations

import json

import numpy as np

from loratwin.errors import InputError
from loratwin.extras import required
from loratwin.workload.streams import stream

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
SPECIAL = (UNKNOWN, BEGIN, END)
"""Their ids are 0, 1 and 2."""

MIN_VOCAB = 256 + len(SPECIAL)
"""Every byte has a token of its own, so that any text can be encoded."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '[' + message['role'] + '] ' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)

_TRAINED = 4096  # more tokens add nothing to a trial; the rest of a larger vocabulary is filled with spare ones
_WORDS = 6000
_SYLLABLES = tuple(a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "in", "os", "um"))


def tokenizer_files(vocab_size: int, max_model_len: int) -> dict[str, str]:
    """`tokenizer.json` and `tokenizer_config.json` with exactly `vocab_size` tokens, as text.

    Raises
    ------
    InputError
        Fewer tokens than bytes, or the library `tokenizers` is missing.
    """
    if vocab_size < MIN_VOCAB:
        raise InputError(f"--vocab {vocab_size}: must be at least {MIN_VOCAB} (each byte is a token)")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "unk_token": UNKNOWN,
        "pad_token": END,
        "model_max_length": max_model_len,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    return {"tokenizer.json": _filled(_trained(vocab_size), vocab_size), "tokenizer_config.json": json.dumps(config)}


def _trained(vocab_size: int) -> str:
    required("tokenizers", "a tokenizer", "make")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(vocab_size, _TRAINED),
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_text(), trainer)
    return str(tokenizer.to_str())


def _text() -> list[str]:
    """Lines of made-up words, frequent ones first by Zipf's law; the same on every machine."""
    rng = stream(0, "tokenizer", "text")
    syllables = rng.choice(_SYLLABLES, (_WORDS, 3))
    words = ["".join(three[:n]) for three, n in zip(syllables, rng.integers(1, 4, _WORDS), strict=True)]
    share = 1 / np.arange(1, _WORDS + 1)
    lines = rng.choice(_WORDS, (2000, 20), p=share / share.sum()).tolist()
    return [" ".join(words[i] for i in line) for line in lines]


def _filled(tokenizer: str, vocab_size: int) -> str:
    """Spare tokens up to `vocab_size`, so that every id that a random LLM can sample has a text."""
    data = json.loads(tokenizer)
    vocab = data["model"]["vocab"]
    for i in range(len(vocab), vocab_size):
        vocab[f"Ġspare{i}"] = i
    return json.dumps(data, ensure_ascii=False)

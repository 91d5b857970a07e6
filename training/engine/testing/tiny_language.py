"""Tiny language models that encode prompts, and the tokenizers that go with them; weights as in ``tiny.seeded``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.engine.testing.tiny import T, qwen_tokenizer

VOCABULARY = 272


def _sizes(width: int, layers: int) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY, "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": width // 2,
    }  # fmt: skip


def qwen3(width: int = 16, layers: int = 4, *, head: bool = True) -> Any:
    """Build a Qwen 3, with the head that predicts words or without."""
    return (T.Qwen3ForCausalLM if head else T.Qwen3Model)(T.Qwen3Config(**_sizes(width, layers)))


def qwen25_vl(width: int = 16, layers: int = 2) -> Any:
    """Build a Qwen 2.5 that also has eyes; its positions are of three axes."""
    eyes = {
        "depth": 1, "hidden_size": 8, "intermediate_size": 16, "num_heads": 1, "out_hidden_size": width,
        "patch_size": 14, "fullatt_block_indexes": [0],
    }  # fmt: skip
    text = {
        key: value for key, value in _sizes(width, layers).items() if key != "head_dim"
    } | {"rope_scaling": {"rope_type": "default", "mrope_section": [1, 1, 2]}}  # fmt: skip
    return T.Qwen2_5_VLForConditionalGeneration(T.Qwen2_5_VLConfig(text_config=text, vision_config=eyes))


def mistral3(width: int = 16, layers: int = 4) -> Any:
    """Build a Mistral 3 that also has eyes."""
    eyes = {
        "model_type": "pixtral", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 1, "head_dim": 8, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    return T.Mistral3ForConditionalGeneration(T.Mistral3Config(
        text_config={"model_type": "mistral", **_sizes(width, layers)}, vision_config=eyes,
    ))  # fmt: skip


def mistral_tokenizer(length: int, *, words: Sequence[str] = ()) -> Any:
    """Build a byte-level tokenizer with a template of messages in parts, as Mistral 3 has them.

    ``words`` are texts that are one token each: what stands before every prompt is long in bytes.
    """
    tokenizer = qwen_tokenizer()
    tokenizer.add_tokens(list(words))
    tokenizer.model_max_length = length
    tokenizer.chat_template = "{% for m in messages %}{{ m.role[0] }}:{{ m.content[0].text }}{% endfor %}"
    return tokenizer

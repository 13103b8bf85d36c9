"""Write a BERT-like embedding model (safetensors in a zip, as sentence-transformers ships it) as GGUF for llama.cpp.

Run as `python -P gguf_write.py MODEL.zip OUT.gguf` by `weights.py`, in a process of its own: it needs numpy,
safetensors and gguf, which the daemon must never load. The names are those of llama.cpp's own converter
(https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py, class BertModel).
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load

__all__ = ["main", "tensor_name", "token_text", "write"]

_OUTSIDE = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
_IN_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
# llama.cpp reads these two only as 32-bit floats.
_KEPT_F32 = {"position_embd.weight", "token_types.weight"}
_SPECIAL = {"bos": "[CLS]", "eos": "[SEP]", "unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}


def tensor_name(name: str) -> str | None:
    """Return llama.cpp's name of a BERT tensor, None for one it does not use (the pooler, position ids)."""
    base, _, suffix = name.removeprefix("bert.").rpartition(".")
    if base in _OUTSIDE:
        return f"{_OUTSIDE[base]}.{suffix}"
    if base.startswith("encoder.layer."):
        layer, _, rest = base.removeprefix("encoder.layer.").partition(".")
        if rest in _IN_LAYER:
            return f"blk.{layer}.{_IN_LAYER[rest]}.{suffix}"
    return None


def token_text(token: str) -> str:
    """Return a WordPiece token as llama.cpp wants it: the start of a word is marked, not its continuation."""
    if _is_bracketed(token):
        return token
    return token[2:] if token.startswith("##") else "\u2581" + token


def _is_bracketed(token: str) -> bool:
    return token.startswith("[") and token.endswith("]") and len(token) > 2


def _add_shape(writer: gguf.GGUFWriter, config: dict[str, Any], name: str) -> None:
    writer.add_name(name)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_causal_attention(False)


def _add_tokenizer(writer: gguf.GGUFWriter, vocabulary: dict[str, int], types: int) -> None:
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    control = gguf.TokenType.CONTROL
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token_text(token).encode() for token in tokens])
    writer.add_token_types(
        [
            control if _is_bracketed(token) and not token.startswith("[unused") else gguf.TokenType.NORMAL
            for token in tokens
        ]
    )
    writer.add_token_type_count(types)
    for name, token in _SPECIAL.items():
        getattr(writer, f"add_{name}_token_id")(vocabulary[token])
    writer.add_uint32("tokenizer.ggml.cls_token_id", vocabulary["[CLS]"])


def _pooling(archive: zipfile.ZipFile) -> gguf.PoolingType:
    """Return how token vectors become one: sentence-transformers says it in a folder of its own; mean by default."""
    if "1_Pooling/config.json" in archive.namelist():
        pooling = json.loads(archive.read("1_Pooling/config.json"))
        if pooling.get("pooling_mode_cls_token"):
            return gguf.PoolingType.CLS
    return gguf.PoolingType.MEAN


def write(source: Path, target: Path, *, name: str = "all-MiniLM-L6-v2") -> None:
    """Write the model of the zip `source` to `target`: matrices as 16-bit floats, the rest as 32-bit floats."""
    with zipfile.ZipFile(source) as archive:
        config = json.loads(archive.read("config.json"))
        vocabulary = json.loads(archive.read("tokenizer.json"))["model"]["vocab"]
        pooling = _pooling(archive)
        tensors = load(archive.read("model.safetensors"))
    writer = gguf.GGUFWriter(target, "bert")
    _add_shape(writer, config, name)
    writer.add_pooling_type(pooling)
    _add_tokenizer(writer, vocabulary, config["type_vocab_size"])
    writer.add_size_label(f"{sum(tensor.size for key, tensor in tensors.items() if tensor_name(key)) / 1e6:.1f}M")
    for key, tensor in tensors.items():
        if (ours := tensor_name(key)) is None:
            continue
        small = tensor.ndim == 2 and ours not in _KEPT_F32
        writer.add_tensor(ours, tensor.astype(np.float16 if small else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(arguments: list[str]) -> None:
    """Convert `arguments[0]` into `arguments[1]`."""
    source, target = arguments
    write(Path(source), Path(target))


if __name__ == "__main__":
    main(sys.argv[1:])

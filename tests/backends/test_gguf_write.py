"""Safetensors to GGUF with a BERT of toy size, read back by the gguf library and by our own reader."""

from __future__ import annotations

import importlib.util
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ollama_proxy.backends.gguf_read import NotGguf, read_metadata

EXTRA = ("gguf", "numpy", "safetensors")
missing = [module for module in EXTRA if importlib.util.find_spec(module) is None]
needs_extra = pytest.mark.skipif(bool(missing), reason=f"the extra `embedded` is not installed: {missing}")

PROGRAM = Path(__file__).resolve().parents[2] / "ollama_proxy" / "backends" / "gguf_write.py"
TOKENS = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "##ing", "[", "]"]
CONFIG = {
    "num_hidden_layers": 1,
    "max_position_embeddings": 16,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
}
SHAPES = {
    "embeddings.word_embeddings.weight": (10, 8),
    "embeddings.position_embeddings.weight": (16, 8),
    "embeddings.token_type_embeddings.weight": (2, 8),
    "embeddings.LayerNorm.weight": (8,),
    "embeddings.LayerNorm.bias": (8,),
    "bert.encoder.layer.0.attention.self.query.weight": (8, 8),
    "encoder.layer.0.attention.self.query.bias": (8,),
    "encoder.layer.0.attention.output.LayerNorm.weight": (8,),
    "encoder.layer.0.intermediate.dense.weight": (12, 8),
    "encoder.layer.0.output.dense.weight": (8, 12),
    "encoder.layer.0.output.LayerNorm.bias": (8,),
    "pooler.dense.weight": (8, 8),
    "embeddings.position_ids": (1, 16),
}


def make_zip(folder: Path, **files: Any) -> Path:
    import numpy as np
    from safetensors.numpy import save

    tensors = {name: np.full(shape, i + 1, dtype=np.float32) for i, (name, shape) in enumerate(SHAPES.items())}
    path = folder / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(CONFIG))
        archive.writestr("tokenizer.json", json.dumps({"model": {"vocab": {t: i for i, t in enumerate(TOKENS)}}}))
        archive.writestr("model.safetensors", save(tensors))
        for name, content in files.items():
            archive.writestr(name.replace("__", "/") + ".json", json.dumps(content))
    return path


def convert(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", str(PROGRAM), str(source), str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@needs_extra
def test_tensors_get_llama_cpps_names_and_types_and_the_unused_are_left_out(tmp_path: Path) -> None:
    from gguf import GGMLQuantizationType, GGUFReader

    target = tmp_path / "model.gguf"
    done = convert(make_zip(tmp_path), target)
    assert done.returncode == 0, done.stderr
    tensors = {t.name: t for t in GGUFReader(target).tensors}
    kinds = {name: t.tensor_type.name for name, t in tensors.items()}
    assert kinds == {
        "token_embd.weight": "F16",
        "position_embd.weight": "F32",
        "token_types.weight": "F32",
        "token_embd_norm.weight": "F32",
        "token_embd_norm.bias": "F32",
        "blk.0.attn_q.weight": "F16",
        "blk.0.attn_q.bias": "F32",
        "blk.0.attn_output_norm.weight": "F32",
        "blk.0.ffn_up.weight": "F16",
        "blk.0.ffn_down.weight": "F16",
        "blk.0.layer_output_norm.bias": "F32",
    }
    assert tensors["blk.0.attn_q.weight"].tensor_type == GGMLQuantizationType.F16
    assert set(tensors["blk.0.ffn_down.weight"].data.flatten().tolist()) == {10.0}


@needs_extra
def test_the_vocabulary_marks_the_start_of_a_word_and_the_control_tokens(tmp_path: Path) -> None:
    from gguf import GGUFReader, TokenType

    convert(make_zip(tmp_path), tmp_path / "model.gguf")
    fields = GGUFReader(tmp_path / "model.gguf").fields
    assert fields["tokenizer.ggml.tokens"].contents() == [*TOKENS[:6], "▁hello", "ing", "▁[", "▁]"]
    control = [kind == TokenType.CONTROL for kind in fields["tokenizer.ggml.token_type"].contents()]
    assert [token for token, is_control in zip(TOKENS, control, strict=True) if is_control] == [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
    ]


@needs_extra
@pytest.mark.parametrize(("pooling", "kind"), [(None, 1), ({"pooling_mode_mean_tokens": True}, 1)])
def test_our_reader_finds_the_metadata(tmp_path: Path, pooling: dict[str, bool] | None, kind: int) -> None:
    files = {} if pooling is None else {"1_Pooling__config": pooling}
    convert(make_zip(tmp_path, **files), tmp_path / "model.gguf")
    data = read_metadata(tmp_path / "model.gguf")
    assert data["general.architecture"] == "bert"
    assert data["bert.context_length"] == 16
    assert data["bert.embedding_length"] == 8
    assert data["bert.attention.causal"] is False
    assert data["bert.pooling_type"] == kind
    assert data["tokenizer.ggml.tokens"] == len(TOKENS)
    assert data["tokenizer.ggml.cls_token_id"] == 3


@needs_extra
def test_cls_pooling_is_kept(tmp_path: Path) -> None:
    convert(make_zip(tmp_path, **{"1_Pooling__config": {"pooling_mode_cls_token": True}}), tmp_path / "model.gguf")
    assert read_metadata(tmp_path / "model.gguf")["bert.pooling_type"] == 2


@needs_extra
def test_a_zip_without_a_model_fails_with_a_reason(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    done = convert(tmp_path / "empty.zip", tmp_path / "model.gguf")
    assert done.returncode != 0
    assert "config.json" in done.stderr.splitlines()[-1]


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf(*pairs: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(pairs)) + b"".join(pairs)


WHOLE = gguf(
    string("general.architecture") + struct.pack("<I", 8) + string("llama"),
    string("names") + struct.pack("<IIQ", 9, 8, 2) + string("a") + string("bc"),
    string("nested") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 4, 2) + bytes(8),
    string("numbers") + struct.pack("<IIQ", 9, 6, 3) + bytes(12),
    string("on") + struct.pack("<I?", 7, True),
    string("big") + struct.pack("<IQ", 10, 1 << 40),
)


def test_our_reader_skips_arrays_and_reads_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(WHOLE)
    assert read_metadata(path) == {
        "general.architecture": "llama",
        "names": 2,
        "nested": 1,
        "numbers": 3,
        "on": True,
        "big": 1 << 40,
    }


def test_a_file_cut_anywhere_in_its_head_is_refused_as_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    for cut in range(len(WHOLE)):
        path.write_bytes(WHOLE[:cut])
        with pytest.raises(NotGguf):
            read_metadata(path)


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", gguf(version=1), gguf(string("a") + struct.pack("<I", 99)), gguf(b"\xff" * 8)]
)
def test_what_is_no_gguf_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    with pytest.raises(NotGguf):
        read_metadata(path)

#!/usr/bin/env python3
"""Writes a Hugging Face directory with Qwen2.5-1.5B's shapes and random BF16 weights: what memory and
speed need of a large model. The vocabulary is 258 bytes and marks, so that no tokenizer is to be had.
    bench/random_model.py DIR [--layers 28] [--seed 0]
Needs nothing but Python."""
import argparse, json, pathlib, random, struct

HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 1536, 8960, 12, 2, 128, 258


def byte_tokens():
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    stand_in, spare = {}, 256
    for b in range(256):
        stand_in[b] = chr(b) if b in plain else chr(spare)
        spare += b not in plain
    return [stand_in[b] for b in range(256)]


def shapes(layers):
    yield "model.embed_tokens.weight", [VOCAB, HIDDEN]
    for i in range(layers):
        layer = f"model.layers.{i}."
        for name, rows in ("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS):
            yield f"{layer}self_attn.{name}_proj.weight", [rows * HEAD_DIM, HIDDEN]
            yield f"{layer}self_attn.{name}_proj.bias", [rows * HEAD_DIM]
        yield f"{layer}self_attn.o_proj.weight", [HIDDEN, HEADS * HEAD_DIM]
        yield f"{layer}mlp.gate_proj.weight", [INTERMEDIATE, HIDDEN]
        yield f"{layer}mlp.up_proj.weight", [INTERMEDIATE, HIDDEN]
        yield f"{layer}mlp.down_proj.weight", [HIDDEN, INTERMEDIATE]
        yield f"{layer}input_layernorm.weight", [HIDDEN]
        yield f"{layer}post_attention_layernorm.weight", [HIDDEN]
    yield "model.norm.weight", [HIDDEN]


def elements(shape):
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.directory.mkdir(parents=True, exist_ok=True)
    rng = random.Random(args.seed)

    config = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
              "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE,
              "num_hidden_layers": args.layers, "num_attention_heads": HEADS,
              "num_key_value_heads": KV_HEADS, "max_position_embeddings": 2048,
              "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": True}
    (args.directory / "config.json").write_text(json.dumps(config, indent=2))
    vocab = {token: i for i, token in enumerate(byte_tokens())}
    special = [{"id": 256 + i, "content": name, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": True}
               for i, name in enumerate(("<|im_start|>", "<|im_end|>"))]
    (args.directory / "tokenizer.json").write_text(json.dumps({
        "added_tokens": special,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": []}}))

    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes(args.layers):
        size = 2 * elements(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    # High bytes 0x3c and 0xbc: magnitudes from 2^-7 to 2^-5, both signs.
    signs = bytes(0x3C | (b & 0x80) for b in range(256))
    with open(args.directory / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes(args.layers):
            data = bytearray(2 * elements(shape))
            if "norm" in name:
                data[0::2], data[1::2] = b"\x80" * len(data[0::2]), b"\x3f" * len(data[1::2])  # 1.0
            else:
                data[0::2] = rng.randbytes(len(data) // 2)
                data[1::2] = rng.randbytes(len(data) // 2).translate(signs)
            file.write(data)


main()

#!/usr/bin/env python3
"""Writes a Hugging Face directory with a large model's shapes and random BF16 weights: what memory and
speed need of one. Its tokenizer knows 256 bytes and two marks, so that none is to be had.
    bench/random_model.py DIR [--shapes qwen2.5-1.5b|llama-3-8b] [--layers N] [--shards N] [--seed 0]
Qwen's vocabulary is those 258; Llama's has all of its rows. Needs nothing but Python."""
import argparse, json, pathlib, random, struct

# hidden, intermediate, heads, heads of keys and values, their width, rows of the vocabulary, layers, tied, biases
SHAPES = {"qwen2.5-1.5b": (1536, 8960, 12, 2, 128, 258, 28, True, True),
          "llama-3-8b": (4096, 14336, 32, 8, 128, 128256, 32, False, False)}


def byte_tokens():
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    stand_in, spare = {}, 256
    for b in range(256):
        stand_in[b] = chr(b) if b in plain else chr(spare)
        spare += b not in plain
    return [stand_in[b] for b in range(256)]


def write_tokenizer(directory):
    """tokenizer.json of 256 bytes and two marks."""
    known = {token: i for i, token in enumerate(byte_tokens())}
    special = [{"id": 256 + i, "content": name, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": True}
               for i, name in enumerate(("<|im_start|>", "<|im_end|>"))]
    (directory / "tokenizer.json").write_text(json.dumps({
        "added_tokens": special,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": known, "merges": []}}))


def tensors(model, layers):
    hidden, intermediate, heads, kv_heads, width, vocab, _, tied, biases = model
    yield "model.embed_tokens.weight", [vocab, hidden]
    for i in range(layers):
        layer = f"model.layers.{i}."
        for name, rows in ("q", heads), ("k", kv_heads), ("v", kv_heads):
            yield f"{layer}self_attn.{name}_proj.weight", [rows * width, hidden]
            if biases:
                yield f"{layer}self_attn.{name}_proj.bias", [rows * width]
        yield f"{layer}self_attn.o_proj.weight", [hidden, heads * width]
        yield f"{layer}mlp.gate_proj.weight", [intermediate, hidden]
        yield f"{layer}mlp.up_proj.weight", [intermediate, hidden]
        yield f"{layer}mlp.down_proj.weight", [hidden, intermediate]
        yield f"{layer}input_layernorm.weight", [hidden]
        yield f"{layer}post_attention_layernorm.weight", [hidden]
    yield "model.norm.weight", [hidden]
    if not tied:
        yield "lm_head.weight", [vocab, hidden]


def elements(shape):
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def write_file(path, shapes, rng):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes:
        size = 2 * elements(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    # High bytes 0x3c and 0xbc: magnitudes from 2^-7 to 2^-5, both signs.
    signs = bytes(0x3C | (b & 0x80) for b in range(256))
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes:
            left = elements(shape)
            while left > 0:
                count = min(left, 1 << 24)
                data = bytearray(2 * count)
                if "norm" in name:
                    data[0::2], data[1::2] = b"\x80" * count, b"\x3f" * count  # 1.0
                else:
                    data[0::2] = rng.randbytes(count)
                    data[1::2] = rng.randbytes(count).translate(signs)
                file.write(data)
                left -= count


def write_weights(directory, shapes, count, rng):
    """As one file, or as `count` shards of about the same size and their index."""
    if count == 1:
        write_file(directory / "model.safetensors", shapes, rng)
        return
    total, seen, shards = sum(elements(shape) for _, shape in shapes), 0, [[] for _ in range(count)]
    for name, shape in shapes:
        shards[count * (2 * seen + elements(shape)) // (2 * total)].append((name, shape))
        seen += elements(shape)
    weight_map = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{count:05}.safetensors"
        write_file(directory / file, shard, rng)
        weight_map.update({name: file for name, _ in shard})
    (directory / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 2 * total}, "weight_map": weight_map}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--shapes", choices=SHAPES, default="qwen2.5-1.5b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.directory.mkdir(parents=True, exist_ok=True)
    model = SHAPES[args.shapes]
    hidden, intermediate, heads, kv_heads, _, vocab, layers, tied, _ = model
    layers = args.layers or layers
    qwen = args.shapes.startswith("qwen")
    config = {"architectures": ["Qwen2ForCausalLM" if qwen else "LlamaForCausalLM"], "model_type": "qwen2" if qwen else "llama",
              "hidden_act": "silu", "vocab_size": vocab, "hidden_size": hidden, "intermediate_size": intermediate,
              "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
              "max_position_embeddings": 2048, "rms_norm_eps": 1e-6 if qwen else 1e-5,
              "rope_theta": 1e6 if qwen else 5e5, "tie_word_embeddings": tied}
    (args.directory / "config.json").write_text(json.dumps(config, indent=2))
    write_weights(args.directory, list(tensors(model, layers)), args.shards, random.Random(args.seed))
    write_tokenizer(args.directory)  # last: others take a directory that has it for whole


if __name__ == "__main__":
    main()

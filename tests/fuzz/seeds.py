#!/usr/bin/env python3
"""Writes small files that are fine for the fuzz targets to begin from: tests/fuzz/seeds.py SQUISH FOLDER, as FOLDER/TARGET/NAME.
What tests/fuzz/corpus holds began so, and was kept small by libFuzzer's -merge=1 (fuzz.sh)."""
import json
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/hostile"))
import corpus  # noqa: E402

SPECS = ["int4", "int2:g=128,scale=f16,clip=mse", "int8:sym=1,g=0,order=none,damp=0.1,sweeps=2", "quip:bits=3", "quip:form=gain",
         "trellis:bits=2.5,code=fast", "trellis:form=tiles,bits=1", "trellis:code=hyb",
         "vptq:v=8,k=256,r=16,groups=2,outliers=1,ov=4,ok=256,share=role", "aqlm:m=2,b=8,g=8,beam=1,tol=0.01,iters=3,rounds=2,share=model"]


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf():
    """Metadata and tokenizer of a model, and a tensor of most types."""
    tokens = [*map(chr, range(33, 73)), "in", "\u0120", "<|im_end|>"]

    def number(value):
        return struct.pack("<IQ", 10, value)

    def texts(values):
        return struct.pack("<IIQ", corpus.ARRAY, corpus.TEXT, len(values)) + b"".join(map(text, values))
    pairs = [("general.architecture", struct.pack("<I", corpus.TEXT) + text("llama")), ("llama.block_count", number(1)),
             ("llama.context_length", number(64)), ("llama.embedding_length", number(256)), ("llama.feed_forward_length", number(256)),
             ("llama.attention.head_count", number(4)), ("llama.attention.head_count_kv", number(2)),
             ("llama.attention.layer_norm_rms_epsilon", struct.pack("<If", 6, 1e-5)), ("llama.rope.freq_base", struct.pack("<If", 6, 1e4)),
             ("tokenizer.ggml.model", struct.pack("<I", corpus.TEXT) + text("gpt2")), ("tokenizer.ggml.tokens", texts(tokens)),
             ("tokenizer.ggml.merges", texts(["i n"])),
             ("tokenizer.ggml.token_type", struct.pack("<IIQ", corpus.ARRAY, 5, len(tokens)) + struct.pack(f"<{len(tokens)}i", *[1] * 42, 3)),
             ("tokenizer.ggml.eos_token_id", number(42)), ("tokenizer.ggml.add_bos_token", struct.pack("<IB", 7, 0))]
    infos, data = b"", b""
    # GGML's number of the type, bytes of a block of so many elements.
    for i, (kind, elements, size) in enumerate(((0, 1, 4), (1, 1, 2), (30, 1, 2), (2, 32, 18), (3, 32, 20), (6, 32, 22), (7, 32, 24), (8, 32, 34),
                                                (12, 256, 144), (13, 256, 176), (14, 256, 210))):
        data += bytes(-len(data) % 32)
        infos += text(("token_embd.weight", "blk.0.attn_q.weight", "output_norm.weight")[i] if i < 3 else f"t{i}")
        infos += struct.pack("<IQIQ", 1, elements, kind, len(data))
        data += bytes(7 * j % 64 for j in range(size))
    head = corpus.gguf(count=11, pairs=pairs, rest=infos)
    return head + bytes(-len(head) % 32) + data


def main():
    squish, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])

    def seed(target, name, content):
        corpus.put(folder / target / name, content)
    for i, spec in enumerate(SPECS):
        seed("spec", f"{i}", spec)
    small = {"a": ([2, 3], bytes(24)), "b.weight": ([4], bytes(range(16))), "none": ([0, 3], b"")}
    seed("safetensors", "small", corpus.safetensors(small))
    seed("safetensors", "metadata", corpus.safetensors(small, lambda d: {"__metadata__": {"format": "pt", "x": "é"}, **d}))
    seed("config", "llama", corpus.CONFIG)
    seed("config", "qwen3", corpus.CONFIG | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 8})
    for i, scaling in enumerate(({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                  "original_max_position_embeddings": 64},
                                 {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32},
                                 {"type": "linear", "factor": 2.0}, {"type": "dynamic", "factor": 2.0})):
        seed("config", f"rope{i}", corpus.CONFIG | {"rope_scaling": scaling})
    seed("gguf", "llama", gguf())
    tokens = corpus.tokenizer()
    seed("tokenizer", "bytes", tokens)
    few = dict(list(tokens["model"]["vocab"].items())[:40]) | {"in": 300, "int": 301}
    seed("tokenizer", "merges", tokens | {"model": {"type": "BPE", "vocab": few, "merges": ["i n", ["in", "t"]]}})
    seed("tokenizer", "split", tokens | {"normalizer": {"type": "NFC"}, "model": {"type": "BPE", "vocab": few, "merges": []},
                                         "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                                             {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}| ?\\p{L}+"}, "behavior": "Isolated"},
                                             {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}})
    pieces = {"<unk>": 0, "<s>": 1, "</s>": 2, "\u2581": 3, "\u2581a": 4, "a": 5, **{f"<0x{b:02X}>": 6 + b for b in range(256)}}
    seed("tokenizer", "sentencepiece", {
        "added_tokens": [], "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        "model": {"type": "BPE", "vocab": pieces, "merges": ["\u2581 a"], "byte_fallback": True, "unk_token": "<unk>"}})
    results = json.loads((ROOT / "docs/results/smollm2-135m.json").read_text())
    for stage in ("stage1", "stage2"):
        results[stage] = results.get(stage, [])[:2]
    seed("results", "bench", results)
    evaluated = json.loads((ROOT / "docs/results/sequential.json").read_text())
    evaluated["rows"] = evaluated["rows"][:1]
    seed("results", "eval", evaluated)
    seed("results", "log", json.dumps({"tensor": "model.layers.0.mlp.up_proj.weight", "spec": "int4", "bpw": 4.5, "snr_db": 20.0,
                                       "seconds": 1.5, "peak_rss_bytes": 12345}) + "\n{")
    for spec in range(27):  # decode.cc's
        seed("decode", str(spec), bytes([spec, spec % 4]))
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        model, lines = place / "model", place / "text"
        corpus.model(model)
        lines.write_text("".join(f" line {i}\n" for i in range(200)))

        def run(*words):
            subprocess.run([squish, *words], check=True, capture_output=True)
        run("calibrate", model, "-o", place / "calib", "--text", lines, "--ctx", "32", "--tokens", "64")
        seed("calibration", "whole", (place / "calib").read_bytes())
        # Of an unknown architecture, so that two small matrices are all.
        corpus.put(place / "odd/config.json", {"architectures": ["Odd"], "model_type": "odd"})
        corpus.put(place / "odd/model.safetensors", corpus.safetensors({
            "a.weight": ([8, 16], struct.pack("<128f", *((i * i % 31 - 15) / 16 for i in range(128)))), "n": ([2], bytes(8))}))
        for i, spec in enumerate(SPECS):
            name = re.sub("[^a-z0-9]+", "-", spec)
            run("quantize", place / "odd", "-o", place / name, "--spec", spec.replace(",share=role", "").replace(",share=model", ""))
            for file in sorted((place / name).glob("*.safetensors")):
                seed("checkpoint", f"{name}-{file.stem[6:11]}", file.read_bytes())
            seed("manifest", name, (place / name / "squish.json").read_bytes())


main()

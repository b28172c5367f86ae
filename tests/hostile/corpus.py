"""A corpus of hostile files: `write(folder, squish)` makes each case of CASES as folder/NAME, from a tiny model that is
fine. Each case is (name, the words of the command with {} for the case, how it is made)."""
import json
import os
import shutil
import struct
import subprocess

VOCAB, HIDDEN, INNER, LAYERS, HEADS = 258, 32, 48, 2, 4
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB, "hidden_size": HIDDEN,
          "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
          "num_key_value_heads": 2, "max_position_embeddings": 96, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
          "tie_word_embeddings": True}
# Matrices of several runs of rows (squish/base/row_runs.h), which ranks share out, the trellis's of 256 among them.
WIDE = CONFIG | {"hidden_size": 264, "intermediate_size": 328}


def tensors(config=CONFIG):
    """Name, shape and bytes (F32) of all tensors, the same every time."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    shapes = {"model.embed_tokens.weight": [VOCAB, hidden], "model.norm.weight": [hidden]}
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        shapes |= {layer + "input_layernorm.weight": [hidden], layer + "post_attention_layernorm.weight": [hidden]}
        for name, rows, cols in (("q", hidden, hidden), ("k", hidden // 2, hidden), ("v", hidden // 2, hidden),
                                 ("o", hidden, hidden)):
            shapes[f"{layer}self_attn.{name}_proj.weight"] = [rows, cols]
        for name, rows, cols in (("gate", inner, hidden), ("up", inner, hidden), ("down", hidden, inner)):
            shapes[f"{layer}mlp.{name}_proj.weight"] = [rows, cols]
    state, found = 1, {}
    for name, shape in shapes.items():
        count = 1
        for size in shape:
            count *= size
        values = []
        for _ in range(count):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            values.append(1.0 if len(shape) == 1 else (state >> 40) / 2**24 - 0.5)
        found[name] = (shape, struct.pack(f"<{count}f", *values))
    return found


def safetensors(entries, header=None, tail=b""):
    """The file of {name: (shape, bytes)}; `header(dict)` may change what it says of them."""
    described, data = {}, b""
    for name, (shape, content) in entries.items():
        described[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header(described) if header else described)
    return struct.pack("<Q", len(text)) + text.encode() + data + tail


def tokenizer():
    alphabet, extra = {}, 256
    for byte in range(256):
        if 33 <= byte <= 126 or (byte >= 161 and byte != 173):
            alphabet[chr(byte)] = byte
        else:
            alphabet[chr(extra)] = byte
            extra += 1
    added = [{"id": 256 + i, "content": text, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for i, text in enumerate(("<|im_start|>", "<|im_end|>"))]
    return {"version": "1.0", "added_tokens": added, "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
            "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": alphabet, "merges": []}}


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(content)


def bytes_of(path):
    """All files of a checkpoint but the log, which holds times; of a single file its bytes."""
    if path.is_file():
        return path.read_bytes()
    return {file.relative_to(path): file.read_bytes() for file in sorted(path.rglob("*"))
            if file.is_file() and file.name != "squish.log.jsonl"}


def model(path, weights=None, config=None, tokens=None):
    """A Hugging Face directory; all that is not given is fine."""
    put(path / "config.json", CONFIG if config is None else config)
    put(path / "tokenizer.json", tokenizer() if tokens is None else tokens)
    put(path / "tokenizer_config.json", {"eos_token": "<|im_end|>"})
    put(path / "model.safetensors", safetensors(tensors()) if weights is None else weights)


def wide_model(path):
    model(path, safetensors(tensors(WIDE)), WIDE)


def with_header(change):
    """A model whose safetensors header says something else; `change` edits it in place or gives another."""
    def made(path, _):
        def header(described):
            changed = change(described)
            return described if changed is None else changed
        model(path, safetensors(tensors(), header))
    return made


def with_config(**changes):
    def made(path, _):
        model(path, config={key: value for key, value in (CONFIG | changes).items() if value is not None})
    return made


def with_tokens(change):
    def made(path, _):
        tokens = tokenizer()
        change(tokens)
        model(path, tokens=tokens)
    return made


def with_weight(name, at, value):
    def made(path, _):
        entries = tensors()
        shape, content = entries[name]
        content = bytearray(content)
        content[4 * at:4 * at + 4] = struct.pack("<f", value)
        model(path, safetensors(entries | {name: (shape, bytes(content))}))
    return made


def cut(count):
    """The safetensors file without all but `count` bytes (from the end where it is negative)."""
    def made(path, _):
        model(path, safetensors(tensors())[:count])
    return made


def sharded(index, **files):
    def made(path, _):
        model(path)
        (path / "model.safetensors").unlink()
        put(path / "model.safetensors.index.json", index)
        for name, content in files.items():
            put(path / f"{name}.safetensors", content)
    return made


def checkpoint(change, spec="int4:g=16"):
    """A checkpoint that squish wrote, then `change(path)`."""
    def made(path, squish):
        source = path.parent / "fine"
        if not source.exists():
            model(source)
        subprocess.run([squish, "quantize", source, "-o", path, "--spec", spec], check=True, capture_output=True)
        change(path)
    return made


def edit(name, change):
    """Edits the JSON file `name` of a checkpoint."""
    def changed(path):
        value = json.loads((path / name).read_text())
        put(path / name, change(value) or value)
    return changed


def rename_shared(path):
    """What a tensor shares gets a name that is nowhere."""
    old, new = b"squish.shared.0", b"squish.shared.7"
    put(path / FIRST, (path / FIRST).read_bytes().replace(old, new))
    edit("squish.json", lambda m: [entry.update(shared=new.decode()) for entry in m["files"][FIRST].values()] and None)(path)


def flip_first_data(path):
    name = FIRST.replace("00002", "00001")
    flip(name, 8 + struct.unpack("<Q", (path / name).read_bytes()[:8])[0])(path)


def flip(name, at):
    def changed(path):
        content = bytearray((path / name).read_bytes())
        content[at] ^= 1
        (path / name).write_bytes(content)
    return changed


def gguf(version=3, count=0, pairs=(), rest=b""):
    text = b"".join(struct.pack("<Q", len(key)) + key.encode() + value for key, value in pairs)
    return b"GGUF" + struct.pack("<IQQ", version, count, len(pairs)) + text + rest


def plain(content):
    return lambda path, _: put(path, content)


def index(**places):
    return {"metadata": {}, "weight_map": {**{name: "a.safetensors" for name in tensors()}, **places}}


def link(path, _):
    model(path)
    (path / "model.safetensors").unlink()
    os.symlink("model.safetensors", path / "model.safetensors")


def deep(depth):
    return "[" * depth + "]" * depth


NORM = "model.norm.weight"
Q = "model.layers.0.self_attn.q_proj.weight"
FIRST = "model-00002-of-00015.safetensors"
LONG = 2**63
INSPECT, EVAL = ("inspect", "{}"), ("run", "{}", "-p", "x", "-n", "1")
U32, TEXT, ARRAY = 4, 8, 9

CASES = [
    # Safetensors: lengths.
    ("empty", INSPECT, lambda path, _: model(path, b"")),
    ("short", INSPECT, cut(7)),
    ("no-header", INSPECT, cut(8)),
    ("half-a-header", INSPECT, cut(500)),
    ("no-data", INSPECT, lambda path, _: model(path, (lambda file: file[:8 + struct.unpack("<Q", file[:8])[0]])(
        safetensors(tensors())))),
    ("last-byte-missing", INSPECT, cut(-1)),
    ("a-byte-too-many", INSPECT, lambda path, _: model(path, safetensors(tensors(), tail=b"x"))),
    ("header-of-2-63", INSPECT, lambda path, _: model(path, struct.pack("<Q", LONG) + b"{}")),
    ("header-of-2-64-minus-1", INSPECT, lambda path, _: model(path, struct.pack("<Q", 2**64 - 1) + b"{}")),
    # Safetensors: what the header says.
    ("header-no-json", INSPECT, lambda path, _: model(path, struct.pack("<Q", 4) + b"abcd")),
    ("header-a-list", INSPECT, lambda path, _: model(path, struct.pack("<Q", 2) + b"[]")),
    ("header-deep", INSPECT, lambda path, _: model(path, struct.pack("<Q", 200000) + deep(100000).encode())),
    ("twice", INSPECT, lambda path, _: model(path, (lambda text: struct.pack("<Q", len(text)) + text)(
        b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'))),
    ("overlap", INSPECT, with_header(lambda h: h[NORM].update(data_offsets=[0, 128]))),
    ("gap", INSPECT, with_header(lambda h: h.pop(NORM) and None)),
    ("end-before-begin", INSPECT, with_header(lambda h: h[NORM].update(data_offsets=[128, 0]))),
    ("offsets-near-2-64", INSPECT, with_header(lambda h: h[NORM].update(data_offsets=[2**64 - 128, 2**64 - 1]))),
    ("shape-overflows", INSPECT, with_header(lambda h: h[NORM].update(shape=[2**32, 2**32, 2**32]))),
    ("shape-times-size-overflows", INSPECT, with_header(lambda h: h[NORM].update(shape=[2**62]))),
    ("shape-negative", INSPECT, with_header(lambda h: h[NORM].update(shape=[-1]))),
    ("shape-a-fraction", INSPECT, with_header(lambda h: h[NORM].update(shape=[1.5]))),
    ("shape-zero", INSPECT, with_header(lambda h: h[NORM].update(shape=[0, 32]))),
    ("dtype-unknown", INSPECT, with_header(lambda h: h[NORM].update(dtype="F8_E4M3"))),
    ("dtype-a-number", INSPECT, with_header(lambda h: h[NORM].update(dtype=32))),
    ("dtype-of-other-size", INSPECT, with_header(lambda h: h[NORM].update(dtype="F16"))),
    ("metadata-a-number", INSPECT, with_header(lambda h: h.update(__metadata__={"a": 1}))),
    ("name-with-newline", EVAL, with_header(lambda h: {
        (name if name != NORM else "model.norm\n\x1b[31mweight"): value for name, value in h.items()})),
    ("a-hundred-thousand-tensors", EVAL, lambda path, _: model(path, safetensors(
        {f"t{i}": ([1], b"\0\0\0\0") for i in range(100000)}))),
    # Weights.
    ("nan", EVAL, with_weight(Q, 5, float("nan"))),
    ("infinity", EVAL, with_weight(NORM, 1, float("inf"))),
    ("nan-quantized", ("quantize", "{}", "--spec", "int4", "-o", "{}.out"), with_weight(Q, 5, float("nan"))),
    ("nan-in-the-embedding", EVAL, with_weight("model.embed_tokens.weight", 7, float("-inf"))),
    # Shards.
    ("shard-missing", INSPECT, sharded(index())),
    ("shard-outside", INSPECT, sharded(index(**{NORM: "../fine/model.safetensors"}))),
    ("shard-absolute", INSPECT, sharded(index(**{NORM: "/etc/passwd"}))),
    ("shard-the-index-itself", INSPECT, sharded({"weight_map": {
        name: "model.safetensors.index.json" for name in tensors()}})),
    ("shard-a-folder", INSPECT, sharded(index(**{NORM: "."}))),
    ("shard-without-the-tensor", INSPECT, sharded(index(), a=safetensors({NORM: tensors()[NORM]}))),
    ("index-without-a-map", INSPECT, sharded({})),
    ("index-a-list", INSPECT, sharded([])),
    ("index-no-json", INSPECT, sharded("{")),
    ("link-to-itself", INSPECT, link),
    # Configuration.
    ("config-missing", EVAL, lambda path, _: (model(path), (path / "config.json").unlink())),
    ("config-deep", EVAL, lambda path, _: model(path, config='{"a":' + deep(100000) + "}")),
    ("config-twice", EVAL, lambda path, _: model(path, config='{"model_type":"llama","model_type":"qwen2"}')),
    ("layers-2-31", EVAL, with_config(num_hidden_layers=2**31 - 1)),
    ("layers-none", EVAL, with_config(num_hidden_layers=0)),
    ("hidden-negative", EVAL, with_config(hidden_size=-32)),
    ("hidden-other", EVAL, with_config(hidden_size=64)),
    ("heads-do-not-divide", EVAL, with_config(num_attention_heads=5)),
    ("heads-of-keys-do-not-divide", EVAL, with_config(num_key_value_heads=3)),
    ("vocabulary-other", EVAL, with_config(vocab_size=300)),
    ("context-2-60", EVAL, with_config(max_position_embeddings=2**60)),
    ("theta-nan", EVAL, lambda path, _: model(path, config=json.dumps(CONFIG).replace("10000.0", "NaN"))),
    ("activation-other", EVAL, with_config(hidden_act="gelu")),
    ("architecture-other", EVAL, with_config(architectures=["MambaForCausalLM"], model_type="mamba")),
    # Tokenizers.
    ("tokenizer-missing", EVAL, lambda path, _: (model(path), (path / "tokenizer.json").unlink())),
    ("tokenizer-no-json", EVAL, lambda path, _: model(path, tokens="nonsense")),
    ("tokenizer-empty", EVAL, lambda path, _: model(path, tokens={})),
    ("merges-of-nothing-known", EVAL, with_tokens(lambda t: t["model"].update(merges=["x y"]))),
    ("merges-of-one", EVAL, with_tokens(lambda t: t["model"].update(merges=["x"]))),
    ("merges-a-number", EVAL, with_tokens(lambda t: t["model"].update(merges=[3]))),
    ("token-id-negative", EVAL, with_tokens(lambda t: t["model"]["vocab"].update(a=-1))),
    ("token-id-2-40", EVAL, with_tokens(lambda t: t["model"]["vocab"].update(a=2**40))),
    ("token-id-twice", EVAL, with_tokens(lambda t: t["model"]["vocab"].update(a=3))),
    ("added-id-beyond", EVAL, with_tokens(lambda t: t["added_tokens"][0].update(id=5000))),
    ("pattern-broken", EVAL, with_tokens(lambda t: t.update(pre_tokenizer={
        "type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": False}))),
    # GGUF.
    ("magic.gguf", INSPECT, plain(b"GGML" + bytes(20))),
    ("cut.gguf", INSPECT, plain(b"GGUF\3\0\0\0")),
    ("version-9.gguf", INSPECT, plain(gguf(version=9))),
    ("tensors-2-63.gguf", INSPECT, plain(gguf(count=LONG))),
    ("pairs-2-63.gguf", INSPECT, plain(b"GGUF" + struct.pack("<IQQ", 3, 0, LONG))),
    ("key-2-63.gguf", INSPECT, plain(b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, LONG))),
    ("array-2-63.gguf", INSPECT, plain(gguf(pairs=[("a", struct.pack("<IIQ", ARRAY, U32, LONG))]))),
    ("arrays-in-arrays.gguf", INSPECT, plain(gguf(pairs=[("a", struct.pack("<I", ARRAY)
                                                          + struct.pack("<IQ", ARRAY, 1) * 100000)]))),
    ("type-99.gguf", INSPECT, plain(gguf(pairs=[("a", struct.pack("<I", 99))]))),
    ("tensor-type-99.gguf", INSPECT, plain(gguf(count=1, rest=struct.pack("<Q", 1) + b"t"
                                                + struct.pack("<IQIQ", 1, 32, 99, 0) + bytes(64)))),
    ("tensor-of-9-dimensions.gguf", INSPECT, plain(gguf(count=1, rest=struct.pack("<Q", 1) + b"t"
                                                        + struct.pack("<I", 9) + bytes(100)))),
    ("tensor-beyond.gguf", INSPECT, plain(gguf(count=1, rest=struct.pack("<Q", 1) + b"t"
                                               + struct.pack("<IQIQ", 1, 32, 0, 1 << 40) + bytes(64)))),
    ("tensor-overflows.gguf", INSPECT, plain(gguf(count=1, rest=struct.pack("<Q", 1) + b"t"
                                                  + struct.pack("<IQQIQ", 2, 2**62, 2**62, 0, 0) + bytes(64)))),
    ("alignment-none.gguf", INSPECT, plain(gguf(pairs=[("general.alignment", struct.pack("<II", U32, 0))]))),
    # Checkpoints.
    ("manifest-cut", INSPECT, checkpoint(lambda path: put(path / "squish.json", (path / "squish.json").read_text()[:400]))),
    ("manifest-of-version-99", INSPECT, checkpoint(edit("squish.json", lambda m: m.update(format_version=99)))),
    ("manifest-without-a-file", INSPECT, checkpoint(edit("squish.json", lambda m: m["files"].pop(FIRST) and None))),
    ("manifest-naming-outside", INSPECT, checkpoint(edit("squish.json", lambda m: m.update(
        files={("../x" if name == FIRST else name): value for name, value in m["files"].items()})))),
    ("file-missing", INSPECT, checkpoint(lambda path: (path / FIRST).unlink())),
    ("file-cut", INSPECT, checkpoint(lambda path: put(path / FIRST, (path / FIRST).read_bytes()[:-40]))),
    ("bit-of-data", ("verify", "{}"), checkpoint(flip(FIRST, -20))),
    ("bit-of-data-run", EVAL, checkpoint(flip(FIRST, -20))),
    ("spec-unknown", INSPECT, checkpoint(lambda path: put(path / FIRST, (path / FIRST).read_bytes().replace(
        b"int4:", b"int9:")))),
    ("shared-missing", INSPECT, checkpoint(rename_shared, "vptq:v=4,k=8,share=model")),
    ("shared-bit", INSPECT, checkpoint(flip_first_data, "vptq:v=4,k=8,share=model")),
    ("job-tensors-a-number", INSPECT, checkpoint(edit("squish.json", lambda m: m["job"].update(tensors=3)))),
    # Other files that squish reads.
    ("results-of-nothing.json", ("report", "{}", "-o", "{}.html"), plain("{}")),
    ("results-deep.json", ("report", "{}", "-o", "{}.html"), plain(deep(100000))),
    ("results-rows-a-text.json", ("report", "{}", "-o", "{}.html"),
     plain({"schema": "squish.bench/1", "stage1": "x", "stage2": []})),
    ("calibration.calib", ("quantize", "fine", "--spec", "int4", "--calib", "{}", "-o", "{}.out"), plain(b"\0" * 64)),
    ("calibration-empty.calib", ("quantize", "fine", "--spec", "int4", "--calib", "{}", "-o", "{}.out"), plain(b"")),
]


def write(folder, squish):
    model(folder / "fine")
    for name, _, made in CASES:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        made(path, squish)

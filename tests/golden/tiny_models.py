#!/usr/bin/env python3
"""Tiny random models with Hugging Face transformers, and what they compute.

    pip install torch transformers safetensors numpy
    tests/golden/tiny_models.py tests/data/models      (from the repository's root)

Writes for each model a directory as Hugging Face has it (config.json, model*.safetensors) and
golden.json: `tokens`, and for chosen positions the logits of one forward pass over all tokens and
of a token-by-token pass with a cache (the two differ with dynamic NTK scaling). Also rope.json:
the rotary frequencies of real configurations. Made with transformers 5.23.0 and torch 2.15.0.
"""
import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

SIZE = dict(vocab_size=128, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
            bos_token_id=1, eos_token_id=2)
TOKENS = 48
POSITIONS = [0, 1, 7, 15, 16, 31, 40, 47]


def rope(**scaling):
    return {"rope_type": "default", "rope_theta": 10000.0} | scaling


MODELS = {
    "llama_tied": (LlamaConfig, dict(tie_word_embeddings=True)),
    "llama_rope_llama3": (LlamaConfig, dict(rope_parameters=rope(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32))),
    "llama_rope_linear": (LlamaConfig, dict(rope_parameters=rope(rope_type="linear", factor=2.5))),
    "llama_rope_yarn": (LlamaConfig, dict(rope_parameters=rope(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=16))),
    "llama_rope_dynamic": (LlamaConfig, dict(
        max_position_embeddings=20, rope_parameters=rope(rope_type="dynamic", factor=2.0))),
    "llama_attention_bias": (LlamaConfig, dict(attention_bias=True)),
    "mistral_window": (MistralConfig, dict(sliding_window=10)),
    "qwen2": (Qwen2Config, dict(rope_parameters=rope(rope_theta=1e6), rms_norm_eps=1e-6)),
    "qwen3": (Qwen3Config, dict(head_dim=16, tie_word_embeddings=True, rms_norm_eps=1e-6)),
}
# Stored as BF16 unless named here; the logits are computed in f32 from what is stored.
TYPES = {"qwen2": torch.float32, "mistral_window": torch.float16}
SHARDED = "qwen2"  # with an index
VERSION_5 = "qwen3"  # config.json as transformers 5 writes it; the others as published models have it

ROPE_CONFIGS = {
    "llama3_8b": (LlamaConfig(hidden_size=4096, num_attention_heads=32,
                              max_position_embeddings=131072, rope_parameters=rope(
        rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
        high_freq_factor=4.0, original_max_position_embeddings=8192)), 100),
    "qwen2_yarn": (Qwen2Config(hidden_size=3584, num_attention_heads=28,
                               max_position_embeddings=131072, rope_parameters=rope(
        rope_type="yarn", rope_theta=1e6, factor=4.0,
        original_max_position_embeddings=32768)), 100),
    "linear": (LlamaConfig(hidden_size=512, num_attention_heads=8,
                           rope_parameters=rope(rope_type="linear", factor=4.0)), 100),
    "dynamic_short": (LlamaConfig(hidden_size=512, num_attention_heads=8,
                                  max_position_embeddings=2048, rope_parameters=rope(
        rope_type="dynamic", factor=2.0)), 2048),
    "dynamic_long": (LlamaConfig(hidden_size=512, num_attention_heads=8,
                                 max_position_embeddings=2048, rope_parameters=rope(
        rope_type="dynamic", factor=2.0)), 5000),
}


def classic(config):
    """config.json as transformers 4 wrote it."""
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    config["rope_scaling"] = None if scaling["rope_type"] == "default" else scaling
    config["torch_dtype"] = config.pop("dtype")
    return config


def rounded(logits):
    return [[float(f"{x:.8g}") for x in row] for row in logits.tolist()]


def write_model(out, name, config_class, options, seed):
    torch.manual_seed(seed)
    dtype = TYPES.get(name, torch.bfloat16)
    config = config_class(**(SIZE | options))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            # Wide enough for attention to be far from uniform; norms and biases not trivial.
            weight.normal_(0, 0.25)
            if "norm" in key:
                weight.add_(1)
            weight.copy_(weight.to(dtype).float())
        tokens = torch.randint(3, SIZE["vocab_size"], (1, TOKENS))
        whole = model(tokens).logits[0]
        past, steps = None, []
        for t in range(TOKENS):
            step = model(tokens[:, t:t + 1], past_key_values=past, use_cache=True)
            past = step.past_key_values
            steps.append(step.logits[0, 0])
    directory = out / name
    model.to(dtype).save_pretrained(directory, max_shard_size="30KB" if name == SHARDED else "1GB")
    (directory / "generation_config.json").unlink(missing_ok=True)
    if name != VERSION_5:
        path = directory / "config.json"
        path.write_text(json.dumps(classic(json.loads(path.read_text())), indent=2) + "\n")
    golden = {"tokens": tokens[0].tolist(), "positions": POSITIONS,
              "logits": rounded(whole[POSITIONS]),
              "stepwise_logits": rounded(torch.stack(steps)[POSITIONS])}
    (directory / "golden.json").write_text(json.dumps(golden) + "\n")


def write_rope(path):
    result = {}
    for name, (config, length) in ROPE_CONFIGS.items():
        p = config.rope_parameters
        radians, amplitude = ROPE_INIT_FUNCTIONS[p["rope_type"]](config, "cpu", seq_len=length)
        result[name] = {"head_dim": config.hidden_size // config.num_attention_heads,
                        "max_context": config.max_position_embeddings, "length": length,
                        "rope": p, "amplitude": amplitude, "radians": radians.tolist()}
    path.write_text(json.dumps(result) + "\n")


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for seed, (name, (config_class, options)) in enumerate(MODELS.items()):
        write_model(out, name, config_class, options, seed)
    write_rope(out / "rope.json")


if __name__ == "__main__":
    main()

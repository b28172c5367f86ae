"""Writes tests/data/tokenizer/: what Hugging Face `tokenizers` and `sentencepiece` make of hostile
texts and of WikiText-2, for tests/model/tokenizer_test.cc.

usage: tokenizer.py SmolLM2-135M-Instruct.Q4_1.gguf wiki.test.raw OUTPUT
       (needs tokenizers, sentencepiece and gguf; made with 0.23.3, 0.2.3 and 0.19.0)

SmolLM2's tokenizer is built from the GGUF's own vocabulary and merges. The others have the form of
Qwen2, Llama 3, Llama 2 and Mistral v0.3, with a few hundred tokens trained on the head of the text.
"""
import hashlib
import json
import os
import struct
import sys

import gguf
import sentencepiece
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

model_path, text_path, output = sys.argv[1:]
wikitext = open(text_path, "rb").read()
corpus = wikitext[:400_000].decode() + "naïve café 北京 東京 Привет мир 👩‍👩‍👧 नमस्ते\n" * 50

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")

HOSTILE = [s if isinstance(s, bytes) else s.encode() for s in [
    "", " ", "  ", "   \t ", "\n", "\r\n", "\r\n\r\n \n\t\r", "a\r\nb\n\rc\r\r\n d", "  a  b   c ",
    "Hello, world! It's 2024-05-17 and they'll've cost $1,234.56.", "I'M HE'LL we'Re 'S 'd 's's",
    "it'\u017f o'\u017f\u017f 'ſ", "e\u0301 é a\u0300\u0323 \u0301 \u0301x \u1e69 s\u0323\u0307",
    "\u212b\u2126 \uac00 \u1100\u1161\u11a8 ﬁ \uff21", "a\u0085b \u0085 \u2028x\u2029 y\u180ez\u180e",
    "a\u00a0b\u00a0\u00a0c \u00a0d", "\u2003em\u3000cjk\u202f\u205f\u1680", "\u200b\ufeffzero\u200d",
    "👩‍👩‍👧‍👦👍🏽🇩🇪 ❤️‍🔥", "12345678901234567890 1 22 333 4444", "٣٤٥ ½ ⅷ 一二 ²³ १२३ 𝟘𝟙",
    "Ǆǅǆ ǅ ʰʲ ªº", "ÀÉÎõü ßſ ñ", "日本語のテキスト、中文字符。한국어", "Привет, мир! ελληνικά עברית العربية",
    "def f(x):\n\treturn {'a': [x**2 for _ in range(10)]}  # ok\n\n\n", "!!!???...---___===###",
    "a_b __init__ C++ C# <tag attr=\"v\">&amp;</tag>", "\x00\x01\x02\x7f\x1b[0m\x1c\x1f", "▁ ▁▁ ▁a a▁b",
    "Ġ Ċ ĠĠa <0x41> <0xE2><0x96>", "\u0378 \U000e0001\U0010ffff\ufffe\uffff", "\U0001d400\U00020000",
    b"\xff", b"a\xc3", b"\xe2\x82", b"\xe2\x28\xa1 \xf0\x9f\x92 x", b"\xc0\xaf\xed\xa0\x80\xf5\x80",
    b"\xf4\x90\x80\x80\xf0\x80\x80\x80", b"ok \x80\x81 \xfe\xff ok", b"\xf0\x9f\x91\xa9\xe2\x80",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "<|endoftext|><|endoftext|>",
    "<|im_start|", "<|im_start|>>", "<<|im_end|>", "<| im_end |>", "<|IM_END|>", "x<|im_end|>y z",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>", "<|eot_id",
    "<s>a</s> b<s>  c</s>", "<s><s> </s>", "a <unk> b", "  <s>", "[INST] hi [/INST]", "[INST][/INST]",
    "<tool_call>\n{}\n</tool_call>", "a  <mask>  b", "<mask>", " <mask>\n\n<mask> ",
]]
REPEATED = [("a", 100_000), (" ", 100_000), ("\n", 10_000), ("1", 10_000), ("ab", 20_000),
            ("é", 20_000), ("👍", 5_000), ("'s", 5_000), ("<", 20_000), ("<|im_end|>", 3_000),
            ("\u0301", 5_000), (" \n", 5_000), ("▁", 5_000)]


def digest(ids):
    return hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()


def golden(encode, decode):
    """Ids with and without what the tokenizer adds around a text, and the text that is decoded."""
    cases = []
    for text in HOSTILE:
        ids = encode(text.decode(errors="replace"))
        cases.append({"text": text.hex(), "ids": ids, "decoded": decode(ids).encode().hex()})
    repeated = []
    for text, times in REPEATED:
        ids = encode(text * times)
        repeated.append({"text": text.encode().hex(), "times": times, "count": len(ids),
                         "sha256": digest(ids)})
    ids = encode(wikitext.decode())
    return {"cases": cases, "repeated": repeated,
            "wikitext": {"count": len(ids), "sha256": digest(ids)}}


def save(name, value):
    path = os.path.join(output, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        json.dump(value, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


def save_golden(name, tokenizer):
    save(name, golden(lambda text: tokenizer.encode(text).ids,
                      lambda ids: tokenizer.decode(ids, skip_special_tokens=True)))


def save_tokenizer(folder, tokenizer, config):
    save(f"{folder}/tokenizer.json", json.loads(tokenizer.to_str()))
    save(f"{folder}/tokenizer_config.json", config)
    save_golden(f"{folder}/golden.json", tokenizer)


def special(*texts, **flags):
    return [AddedToken(text, special=True, normalized=False, **flags) for text in texts]


def smollm2():
    fields = gguf.GGUFReader(model_path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        special(*(text for text, kind in zip(tokens, types) if kind == gguf.TokenType.CONTROL)))
    save_golden("smollm2.json", tokenizer)


def trained_byte_level(pattern, size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([corpus], trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tokenizer


def qwen2():
    tokenizer = trained_byte_level(QWEN2, 480)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False),
                          AddedToken("</tool_call>", normalized=False)])
    tokenizer.add_special_tokens(special("<mask>", lstrip=True, rstrip=True))
    save_tokenizer("qwen2", tokenizer, {"bos_token": None, "eos_token": "<|im_end|>",
                                        "add_bos_token": False})


def llama3():
    trained = json.loads(trained_byte_level(LLAMA3, 520).to_str())
    trained["model"]["ignore_merges"] = True
    # Without its last merges some words are tokens that merging alone does not reach.
    del trained["model"]["merges"][-40:]
    tokenizer = Tokenizer.from_str(json.dumps(trained))
    tokenizer.add_special_tokens(special("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>",
                                         "<|start_header_id|>", "<|end_header_id|>"))
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing("<|begin_of_text|> $A", "<|begin_of_text|> $A $B",
                                      [("<|begin_of_text|>", begin)])])
    save_tokenizer("llama3", tokenizer, {
        "bos_token": "<|begin_of_text|>", "eos_token": {"content": "<|eot_id|>", "special": True}})


def trained_sentencepiece_style(extra):
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator([corpus], trainers.BpeTrainer(
        vocab_size=300, limit_alphabet=80, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    texts = (["<unk>", "<s>", "</s>"] + extra + [f"<0x{byte:02X}>" for byte in range(256)] +
             sorted(model["vocab"], key=model["vocab"].get))
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(texts)},
                                     [tuple(merge) for merge in model["merges"]],
                                     unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                           decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(special("<unk>", "<s>", "</s>", *extra))
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
    return tokenizer


def llama2():
    tokenizer = trained_sentencepiece_style([])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"),
                                                 normalizers.Replace(" ", "▁")])
    save_tokenizer("llama2", tokenizer, {"bos_token": "<s>", "eos_token": "</s>"})


def mistral():
    tokenizer = trained_sentencepiece_style(["[INST]", "[/INST]"])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    save_tokenizer("mistral", tokenizer, {"bos_token": "<s>", "eos_token": "</s>"})


def metaspace():
    """Metaspace in its older form: a prefix for each section, words that merge alone."""
    tokenizer = trained_sentencepiece_style([])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    save_tokenizer("metaspace", tokenizer, {"bos_token": "<s>", "eos_token": "</s>"})


def scores():
    """Tokens and scores as a GGUF file holds them, from sentencepiece's own BPE."""
    folder = os.path.join(output, "scores")
    os.makedirs(folder, exist_ok=True)
    prefix = os.path.join(folder, "spm")
    with open(prefix + ".txt", "w") as file:
        file.write(corpus)
    sentencepiece.SentencePieceTrainer.train(
        input=prefix + ".txt", model_prefix=prefix, vocab_size=700, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, split_digits=True, minloglevel=2, num_threads=1)
    spm = sentencepiece.SentencePieceProcessor(model_file=prefix + ".model")
    count = range(spm.get_piece_size())
    kinds = [2 if spm.is_unknown(i) else 3 if spm.is_control(i) else 6 if spm.is_byte(i) else 1
             for i in count]
    # sentencepiece takes control tokens for plain text and ends a text at NUL.
    control = ("<s>", "</s>", "<unk>", "\0")
    global HOSTILE
    HOSTILE = [t for t in HOSTILE if not any(c in t.decode(errors="replace") for c in control)]
    value = golden(lambda text: spm.encode(text), lambda ids: spm.decode(ids))
    value |= {"tokens": [spm.id_to_piece(i) for i in count],
              "scores": [spm.get_score(i) for i in count], "types": kinds}
    save("scores/golden.json", value)
    for ending in (".txt", ".model", ".vocab"):
        os.remove(prefix + ending)


smollm2()
qwen2()
llama3()
llama2()
mistral()
metaspace()
scores()

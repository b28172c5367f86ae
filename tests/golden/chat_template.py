"""Writes tests/data/chat/golden.json: what transformers' Jinja makes of the templates beside it.

usage: chat_template.py tests/data/chat   (needs transformers and jinja2; made with 5.23.0)

smollm2.jinja and qwen2.5.jinja are those models' own, out of their GGUF files; the others are the
models' own without the parts for tools; chatml-text.jinja writes outside of quotes.
"""
import json
import os
import sys

from transformers.utils.chat_template_utils import render_jinja_template

folder = sys.argv[1]


def chat(*turns):
    return [{"role": role, "content": content} for role, content in turns]


CHATS = [
    chat(("user", "Hello!")),
    chat(("system", "Be brief."), ("user", "  What's 1 + 1?\n")),
    chat(("user", "a"), ("assistant", "<think>\nhm\n</think>\n\nb\n"), ("user", "ç 'd' \"e\" {{ f }}")),
    chat(("system", " \n"), ("user", ""), ("assistant", "x"), ("system", "y"), ("user", "\\n z")),
]

golden = []
for name in sorted(os.listdir(folder)):
    if not name.endswith(".jinja"):
        continue
    template = open(os.path.join(folder, name)).read()
    for messages in CHATS:
        texts, _ = render_jinja_template([messages], chat_template=template, bos_token="<bos>",
                                         add_generation_prompt=True)
        golden.append({"template": name, "messages": messages, "text": texts[0]})
with open(os.path.join(folder, "golden.json"), "w") as file:
    json.dump(golden, file, ensure_ascii=False, indent=1)
    file.write("\n")

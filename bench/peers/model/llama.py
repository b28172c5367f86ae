"""The types of llama.cpp, mainline."""
from llama_cpp import MAINLINE, Types

PEER = Types("llama_ggml", MAINLINE, {"iq2_xxs": 16, "iq2_xs": 17, "q2_K": 10, "iq3_xxs": 18, "q3_K": 11})

"""llama.cpp, mainline."""
from llama_cpp import MAINLINE, Runtime

PEER = Runtime("llama", MAINLINE, ["F16", "Q4_0", "Q2_K", "IQ2_XXS"])

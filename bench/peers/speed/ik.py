"""ik_llama.cpp."""
from llama_cpp import IK, Runtime

PEER = Runtime("ik", IK, ["F16", "Q4_0", "Q2_K", "IQ2_KT", "IQ2_KS", "IQ3_KT"])

"""The types of ik_llama.cpp; measured at 8337e4cd3861406fc04e0854b1409cd1b027fbc9."""
from llama_cpp import IK, Types

PEER = Types("ik_ggml", IK, {"iq2_xxs": 16, "iq2_ks": 145, "iq2_kt": 153, "iq2_k": 137, "iq3_kt": 154, "iq3_k": 138,
                             "iq4_kt": 155})

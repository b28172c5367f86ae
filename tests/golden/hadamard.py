"""Digests of QuIP#'s stored Hadamard matrices for tests/linalg/hadamard_test.cc.

usage: hadamard.py matmul_had.py   (lib/utils/matmul_had.py of Cornell-RelaxML/quip-sharp; needs torch)
Prints for each order K the sha256 of the K * K signs, row-major, as '+' and '-'.
"""
import hashlib
import re
import sys

source = open(sys.argv[1]).read()
# Its CUDA kernels are not needed for the tables.
source = re.sub(r"^(import|from) (fast_hadamard|quiptools|lib).*$", "", source, flags=re.M)
reference = {}
exec(compile(source, sys.argv[1], "exec"), reference)
for order in (12, 20, 28, 36, 52, 60, 108, 116, 124, 140, 156, 172):
    matrix = reference[f"get_had{order}"]().flatten().tolist()
    signs = "".join("+" if x > 0 else "-" for x in matrix)
    print(order, hashlib.sha256(signs.encode()).hexdigest())

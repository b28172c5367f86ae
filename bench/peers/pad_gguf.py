#!/usr/bin/env python3
"""A GGUF model padded with zeros to rows of whole blocks of 256, as F16, for peers whose types need those.

    pad_gguf.py IN.gguf OUT.gguf

The residual stream is widened to the next multiple of 256 and each group of query heads by heads of zeros, so that
the model computes the same: what is added stays zero; RMS norms divide by the root of the mean over more elements,
which their weights and epsilon make up for. Wants Python's `gguf` and `numpy`. Llama's tensors alone.
"""
import sys

import gguf
import numpy

BLOCK = 256


def widen(values, axis, size):
    """Zeros behind the last along one axis."""
    room = [(0, 0)] * values.ndim
    room[axis] = (0, size - values.shape[axis])
    return numpy.pad(values, room)


class Widths:
    def __init__(self, reader):
        self.arch = reader.fields["general.architecture"].contents()
        self.hidden = self.read(reader, "embedding_length")
        self.heads = self.read(reader, "attention.head_count")
        self.groups = self.read(reader, "attention.head_count_kv")
        self.head = self.hidden // self.heads
        self.new_hidden = -(-self.hidden // BLOCK) * BLOCK
        self.new_heads = self.new_hidden // self.head
        if self.new_heads % self.groups != 0:
            sys.exit(f"{self.new_heads} heads of {self.head} do not share {self.groups} heads of keys evenly")

    def read(self, reader, key):
        return reader.fields[f"{self.arch}.{key}"].contents()

    def widen_heads(self, values, axis):
        """Each group's heads stay the first of those that share its keys."""
        shape = list(values.shape)
        grouped = values.reshape(shape[:axis] + [self.groups, -1] + shape[axis + 1:])
        grouped = widen(grouped, axis + 1, self.new_heads // self.groups * self.head)
        shape[axis] = self.new_heads * self.head
        return grouped.reshape(shape)

    def widen_tensor(self, name, values):
        if name.endswith("_norm.weight"):
            return widen(values, 0, self.new_hidden) * numpy.float32(numpy.sqrt(self.hidden / self.new_hidden))
        role = name.split(".")[-2]
        if role in ("attn_q", "attn_k", "attn_v") and values.ndim == 1:
            return self.widen_heads(values, 0) if role == "attn_q" else values
        if role == "attn_q":
            return widen(self.widen_heads(values, 0), 1, self.new_hidden)
        if role == "attn_output":
            return widen(self.widen_heads(values, 1), 0, self.new_hidden)
        if role == "ffn_down":
            return widen(values, 0, self.new_hidden)
        if role in ("token_embd", "output", "attn_k", "attn_v", "ffn_gate", "ffn_up"):
            return widen(values, 1, self.new_hidden)
        sys.exit(f"{name}: expected a tensor of a Llama")


def main(source, target):
    reader = gguf.GGUFReader(source)
    widths = Widths(reader)
    writer = gguf.GGUFWriter(target, widths.arch)
    changed = {
        f"{widths.arch}.embedding_length": widths.new_hidden,
        f"{widths.arch}.attention.head_count": widths.new_heads,
        f"{widths.arch}.attention.layer_norm_rms_epsilon":
            widths.read(reader, "attention.layer_norm_rms_epsilon") * widths.hidden / widths.new_hidden,
    }
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type",
                                                "general.quantization_version"):
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, changed.get(name, field.contents()), field.types[0], inner)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        values = widths.widen_tensor(tensor.name, values.reshape([int(n) for n in reversed(tensor.shape)]))
        kind = numpy.float32 if values.ndim == 1 else numpy.float16
        writer.add_tensor(tensor.name, numpy.ascontiguousarray(values, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""The tables of results in documents, written from the stored result files: scripts/tables.py [--check] [DOCUMENT...]
(README.md and all of docs/ by default). What stands between

    <!-- table FILE COLUMN... -->
    <!-- end -->

is replaced by a table of the models' rows of the results FILE (of squish bench or squish eval; FILE:KEY: of what is there). --check changes nothing and fails where a table is not what its file says."""
import json
import pathlib
import re
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^(<!-- table (\S+) ([^\n]*?) -->\n)(.*?)^(<!-- end -->)$", re.M | re.S)


def number(value, digits):
    return "–" if value is None else f"{value:.{digits}f}"


def with_error(value, error, digits):
    return "–" if value is None else f"{value:.{digits}f} ± {error:.{digits}f}"


def label(row):
    return f"`{row['spec']}`"


def duration(seconds):
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def spread(value, digits):
    return f"{value['median']:.{digits}f} ({value['min']:.{digits}f} to {value['max']:.{digits}f})"


def decoding(value):
    return "–" if value is None else f"{1e-9 * value['weights_per_s']:.1f} ({value['instructions_for_64']:.0f})"


COLUMNS = {
    "method": ("Method", label),
    "model": ("Model", lambda row: f"`{pathlib.PurePath(row['model']).name}`"),
    "calibrated": ("", lambda row: "calibrated" if row.get("calibrated") else ""),
    "bpw_linear": ("BPW linear", lambda row: number(row.get("bpw_linear"), 3)),
    "bpw_model": ("BPW model", lambda row: number(row.get("bpw_model"), 3)),
    "ppl": ("PPL", lambda row: with_error(row.get("ppl"), row.get("ppl", 0) * row.get("nll_se", 0), 3)),
    "delta_nll": ("ΔNLL (nats)", lambda row: with_error(row.get("delta_nll"), row.get("delta_nll_se"), 4)),
    "kld": ("KLD", lambda row: number(row.get("kld_mean"), 4)),
    "top1": ("top-1", lambda row: "–" if "top1_agreement" not in row else f"{100 * row['top1_agreement']:.1f} %"),
    "quantize_s": ("Quantize (s)", lambda row: number(row.get("quantize_s"), 0)),
    # bench/scale/
    "what": ("", lambda row: row["what"]),
    "peak_gb": ("Peak (GB)", lambda row: number(1e-9 * row["peak_anonymous_bytes"], 2)),
    "ratio": ("Speed of 2 ranks, over 2 threads", lambda row: number(row["speed_of_ranks_over_threads"], 2)),
    "shapes": ("Model", lambda row: row["model"]),
    # bench/peers/run.py
    "racer": ("", lambda row: row["name"]),
    "generate": ("generated, tokens/s", lambda row: spread(row["generate"], 0)),
    "prompt": ("prompt of 512, tokens/s", lambda row: spread(row["prompt"], 0)),
    "race": ("", lambda row: f"{row['what']}: {row['ours']} / {row['theirs']}"),
    "times": ("ratio", lambda row: spread(row, 2)),
    "aim": ("aim", lambda row: f"{row['aim']:g}"),
    # bench/kv.py
    "kv": ("kept as", lambda row: row["kv"]),
    "small_kld": ("KLD", lambda row: "–" if "kld_mean" not in row else f"{row['kld_mean']:.1e}"),
    "small_delta": ("ΔNLL (nats)", lambda row: with_error(row.get("delta_nll"), row.get("delta_nll_se"), 5)),
    "over_f32": ("tokens/s over those of f32", lambda row: number(row.get("over_f32"), 2)),
    # bench/trellis/frontier.py
    "bits": ("bits", lambda row: str(row["bits"])),
    # bench/trellis/gaussian.py
    "stored": ("stored bits", lambda row: number(row["bpw"], 4)),
    "snr_mean": ("SNR (dB), mean", lambda row: number(statistics.mean(row["snr_db"]), 3)),
    "snr_least": ("least", lambda row: number(min(row["snr_db"]), 3)),
    "compress_s": ("compress (s)", lambda row: number(row["compress_s"], 1)),
    # bench/trellis/beam.py, choices.py
    "state_bits": ("state bits", lambda row: str(row["state_bits"])),
    "survivors": ("survivors", lambda row: f"{row['survivors']:,}"),
    "proxy_snr": ("proxy SNR (dB)", lambda row: number(row["proxy_snr_db"], 3)),
    # bench/repairs.py
    "tensor": ("tensor", lambda row: row["tensor"]),
    "proxy_loss": ("proxy loss", lambda row: number(row.get("proxy_loss"), 5)),
    "left_by_bias": ("left by a bias", lambda row: number(row["left_by_bias"], 4)),
    "left_by_scales": ("left by row scales", lambda row: number(row["left_by_scales"], 4)),
    "snr": ("SNR (dB)", lambda row: number(row["snr_db"], 3)),
    # bench/kernel_table.py
    "spec": ("spec", label),
    "shape": ("shape", lambda row: row["shape"]),
    "kernel": ("", lambda row: row["what"]),
    # ./fuzz.sh
    "target": ("reader", lambda row: f"`{row['target']}`"),
    "executions": ("executions", lambda row: f"{row['executions']:,}"),
    "cpu_s": ("CPU time", lambda row: duration(row["cpu_s"])),
    "edges": ("edges", lambda row: f"{row['edges']:,}"),
    "findings": ("findings", lambda row: str(row["findings"])),
    "quiet_s": ("since the last new one", lambda row: duration(row["quiet_s"])),
    "commit": ("commit", lambda row: row["commit"]),
    "avx2": ("avx2", lambda row: number(row.get("avx2/2"), 1)),
    "avx512vbmi": ("avx512vbmi", lambda row: number(row.get("avx512vbmi/2"), 1)),
} | {f"on_{nodes}": (f"{nodes} nodes" if nodes > 1 else "1 node",
                    lambda row, nodes=str(nodes): f"{duration(row['seconds'][nodes])} ({100 * row['efficiency'][nodes]:.0f} %)")
     for nodes in (1, 2, 4, 8, 16, 32, 64)
} | {f"beam_{bits}": (f"{bits} bits", lambda row, key=f"beam_{bits}": number(row.get(key), 3)) for bits in (2, 3, 4)
} | {f"snr_{form}": (form, lambda row, key=f"snr_{form}": number(row.get(key), 3)) for form in ("plain", "symmetric", "wide", "pairs")
} | {f"snr_{width}": (f"L = {width}", lambda row, key=f"snr_{width}": number(row.get(key), 2)) for width in range(8, 17)
} | {f"decode_{isa}": (title, lambda row, isa=isa: decoding(row.get(isa))) for isa, title in (
    ("avx2", "AVX2"), ("avx512", "AVX-512"), ("avx512vbmi", "VBMI, GFNI"))
}


LEFT = ("method", "model", "kv", "calibrated", "what", "shapes", "racer", "race", "spec", "shape", "kernel", "target", "commit", "tensor")


def table(name, words):
    name, _, key = name.partition(":")
    results = json.loads((ROOT / name).read_text(encoding="utf-8"))
    rows = results[key or ("stage2" if results.get("schema") == "squish.bench/1" else "rows")]
    columns = words.split()
    lines = ["| " + " | ".join(COLUMNS[column][0] for column in columns) + " |",
             "|" + "|".join(":--" if column in LEFT else "--:" for column in columns) + "|"]
    lines += ["| " + " | ".join(COLUMNS[column][1](row) for column in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main():
    check = "--check" in sys.argv[1:]
    names = [pathlib.Path(name).resolve() for name in sys.argv[1:] if name != "--check"]
    stale = []
    for document in names or [ROOT / "README.md", ROOT / "bench/peers/README.md", *sorted(ROOT.glob("docs/**/*.md"))]:
        before = document.read_text(encoding="utf-8")
        after = BLOCK.sub(lambda found: found[1] + table(found[2], found[3]) + found[5], before)
        if after == before:
            continue
        stale.append(str(document))
        if not check:
            document.write_text(after, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'a table is not what its file says; run scripts/tables.py' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

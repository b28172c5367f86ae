#!/usr/bin/env python3
"""Runs the fuzz targets that ./fuzz.sh built, as many at a time as there are cores: drive.py SECONDS [TARGET...] fuzzes each for so
many seconds of CPU time, goes on from what it found before (build/fuzz/corpus/TARGET), and adds what was done to the record
(docs/results/fuzzing.json), a row for each target and commit. drive.py --keep [TARGET...] brings the inputs of at most 4 KiB
that cover most into tests/fuzz/corpus (which tests/fuzz/seeds.py began). What fails is in build/fuzz/findings, and the exit status 1."""
import concurrent.futures
import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/fuzz"
RECORD = ROOT / "docs/results/fuzzing.json"
KEPT_BYTES = 4096
RECORDING = threading.Lock()
# One allocation may be a few times as large as the largest input, not what a number in it says.
LIMITS = ["-max_len=65536", "-timeout=300", "-rss_limit_mb=2048", "-malloc_limit_mb=64"]


def folders(name):
    found = BUILD / "corpus" / name
    found.mkdir(parents=True, exist_ok=True)
    kept = ROOT / "tests/fuzz/corpus" / name
    kept.mkdir(parents=True, exist_ok=True)
    return found, kept


def program(name):
    return BUILD / "tests" / f"fuzz_{name}"


def keep(name):
    found, kept = folders(name)
    chosen = found.with_suffix(".new")
    shutil.rmtree(chosen, ignore_errors=True)
    chosen.mkdir()
    subprocess.run([program(name), "-merge=1", f"-max_len={KEPT_BYTES}", chosen, kept, found], check=True, capture_output=True)
    shutil.rmtree(kept)
    chosen.rename(kept)


def cpu_seconds(pid):
    user, system = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def fuzz(name, seconds):
    """Runs the target once; a row of the record, in CPU time."""
    words = [program(name), f"-max_total_time={seconds}", "-print_final_stats=1", *LIMITS, f"-dict={ROOT}/tests/fuzz/words.dict",
             f"-artifact_prefix={BUILD}/findings/{name}-", *folders(name)]
    edges, last_edge, runs = 0, 0.0, 0
    with open(BUILD / f"{name}.log", "w") as log:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
        for line in process.stderr:
            log.write(line)
            if match := re.match(r"#\d+\s.*cov: (\d+)", line):
                if int(match[1]) > edges:
                    edges, last_edge = int(match[1]), cpu_seconds(process.pid)
            if match := re.match(r"stat::number_of_executed_units:\s*(\d+)", line):
                runs = int(match[1])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = usage.ru_utime + usage.ru_stime
    row = {"target": name, "findings": int(process.returncode != 0), "cpu_s": round(cpu_s), "executions": runs, "edges": edges,
           "quiet_s": round(cpu_s - last_edge), "date": datetime.date.today().isoformat()}
    if row["findings"]:
        print(f"{name}: FAILED; {BUILD}/{name}.log", flush=True)
    print(f"{name}: {runs} executions in {row['cpu_s']} s of CPU time, {edges} edges, the last new one {row['quiet_s']} s before the end",
          flush=True)
    return row


def describe_commit():
    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, check=False, capture_output=True, text=True)
    clean = git("diff", "--quiet", "HEAD", "--", ".", ":!docs/results").returncode == 0
    return git("describe", "--always").stdout.strip() + ("" if clean else "-dirty")


def record(row, commit):
    """Adds it to what was done before at the same commit; what was quiet before stays so if nothing was new."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())[1]
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {"schema": "squish.fuzzing/1", "command": "./fuzz.sh SECONDS", "rows": []}
    row |= {"commit": commit, "cpu": cpu}
    for old in known["rows"]:
        if old["target"] == row["target"] and old["commit"] == commit:
            quiet = row["quiet_s"] + (old["quiet_s"] if row["edges"] <= old["edges"] else 0)
            added = {key: old[key] + row[key] for key in ("cpu_s", "executions", "findings")}
            old |= row | added | {"quiet_s": quiet, "edges": max(row["edges"], old["edges"])}
            break
    else:
        known["rows"].append(row)
    known["rows"].sort(key=lambda row: (row["target"], row["date"]))
    RECORD.write_text(json.dumps(known, indent=1) + "\n")


def fuzz_for(name, seconds, commit):
    """Until the target has had its CPU time, which beside other work takes longer than that; false if it failed."""
    used = 0
    while used < seconds:
        row = fuzz(name, max(seconds - used, 10))
        used += row["cpu_s"]
        with RECORDING:
            record(row, commit)
        if row["findings"]:
            return False
    return True


def main():
    what, *names = sys.argv[1:]
    names = names or sorted(path.stem for path in (ROOT / "tests/fuzz").glob("*.cc") if path.stem != "replay")
    commit = describe_commit()
    (BUILD / "findings").mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        if what == "--keep":
            list(pool.map(keep, names))
            return 0
        return 0 if all(list(pool.map(lambda name: fuzz_for(name, int(what), commit), names))) else 1


if __name__ == "__main__":
    sys.exit(main())

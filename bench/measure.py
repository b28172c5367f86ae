"""What the scripts here have in common: the program and model they try, what a command takes, and where a result comes from."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time


ROOT = pathlib.Path(__file__).resolve().parents[1]


def squish():
    """$SQUISH, else the release build's."""
    return pathlib.Path(os.environ.get("SQUISH") or ROOT / "build/release/squish")


def smollm2():
    """SmolLM2-135M's GGUF, fetched where it is missing."""
    return pathlib.Path(subprocess.run([ROOT / "scripts/fetch_model.sh"], check=True, capture_output=True, text=True).stdout.strip())


def cache():
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "squish"


def calibration_of(model):
    """$SQUISH_CALIB, else what bench/specs.sh made."""
    path = pathlib.Path(os.environ.get("SQUISH_CALIB") or cache() / f"{model.name}.calib")
    if not path.exists():
        sys.exit(f"{path}: expected a calibration; squish calibrate {model} -o {path} makes it")
    return path


def anonymous(pid):
    try:
        found = re.search(r"RssAnon:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0


def peak_of(command):
    """Seconds and the most anonymous memory that was seen; the script ends with what a failed command said."""
    begin, peak = time.monotonic(), 0
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors) as process:
            while process.poll() is None:
                peak = max(peak, anonymous(process.pid))
                time.sleep(0.002)
        if process.returncode != 0:
            errors.seek(0)
            sys.exit(errors.read().decode(errors="replace"))
    return round(time.monotonic() - begin, 1), peak


def seconds_of(command):
    """Seconds, and user and system seconds; the script ends with what a failed command said."""
    print(" ".join(map(str, command)), file=sys.stderr, flush=True)
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(said)
    return round(time.monotonic() - begin, 1), used.ru_utime + used.ru_stime


def cpu():
    found = re.search(r"model name\s+: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return found[1] if found else ""


def version(squish):
    return subprocess.run([squish, "--version"], check=True, capture_output=True, text=True).stdout.strip()

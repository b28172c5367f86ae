"""What the scripts here have in common: a command's peak of anonymous memory, and where a result comes from."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time


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

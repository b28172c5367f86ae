"""Ranks on several hosts (network namespaces joined by a bridge, over TCP) end in the bytes of one process. Needs root and
iproute2, and skips where it may not make namespaces."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/hostile"))
import corpus  # noqa: E402

SQUISH = pathlib.Path(os.environ.get("SQUISH_BINARY", ROOT / "build/release/squish"))
NAME, NET = f"squish{os.getpid()}", "10.213.7"
HOSTS = 3
AGENT = f"""#!/bin/sh
# mpirun's way to another host: the name is its address.
host=${{1##*.}}; shift
exec ip netns exec {NAME}-$host unshare --uts sh -c "hostname host$host; $*"
"""


def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True).returncode == 0


def make_hosts():
    ip("link", "add", f"{NAME[:11]}br", "type", "bridge")
    ip("addr", "add", f"{NET}.254/24", "dev", f"{NAME[:11]}br")
    ip("link", "set", f"{NAME[:11]}br", "up")
    for host in range(1, HOSTS + 1):
        ip("netns", "add", f"{NAME}-{host}")
        inside, outside = f"{NAME[:11]}i{host}", f"{NAME[:11]}o{host}"
        ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", f"{NAME}-{host}")
        ip("link", "set", outside, "master", f"{NAME[:11]}br", "up")
        ip("-n", f"{NAME}-{host}", "addr", "add", f"{NET}.{host}/24", "dev", inside)
        for device in ("lo", inside):
            ip("-n", f"{NAME}-{host}", "link", "set", device, "up")


def remove_hosts():
    for host in range(1, HOSTS + 1):
        ip("netns", "del", f"{NAME}-{host}", check=False)
    ip("link", "del", f"{NAME[:11]}br", check=False)


@unittest.skipIf(shutil.which("mpirun") is None, "there is no mpirun")
@unittest.skipIf(os.environ.get("SQUISH_SANITIZE"), "MPI's own leaks are not ours")
class Hosts(unittest.TestCase):
    def setUp(self):
        try:
            make_hosts()
        except (OSError, subprocess.CalledProcessError) as error:
            remove_hosts() if shutil.which("ip") else None
            self.skipTest(f"no network namespaces: {getattr(error, 'stderr', error)}")
        self.addCleanup(remove_hosts)

    def test_jobs_over_tcp_end_in_the_same_bytes(self):
        with tempfile.TemporaryDirectory() as place:
            folder = pathlib.Path(place).resolve()
            corpus.model(folder / "model")
            corpus.wide_model(folder / "wide")  # whose matrices' rows are shared out
            agent = folder / "agent"
            agent.write_text(AGENT)
            agent.chmod(0o755)
            (folder / "text").write_text("".join(f" line {i}\n" for i in range(400)))
            text = ["--threads", "1", "--text", folder / "text"]
            jobs = {"weights": ["quantize", folder / "model", "--spec", "aqlm:m=2,b=4", "--threads", "1", "-o"],
                    "calib": ["calibrate", folder / "model", "--ctx", "64", *text, "-o"],
                    "sequential": ["quantize", folder / "wide", "--spec", "trellis:bits=2,code=fast", "--sequential",
                                   "--tokens", "300", *text, "-o"]}
            mca = {"plm_rsh_agent": agent, "plm_rsh_no_tree_spawn": 1, "btl": "tcp,self",
                   "btl_tcp_if_include": f"{NET}.0/24", "oob_tcp_if_include": f"{NET}.0/24"}
            for name, job in jobs.items():
                alone, shared, hosts = (folder / f"{name}-{what}" for what in ("alone", "shared", "hosts"))
                subprocess.run([SQUISH, *job, alone], check=True, capture_output=True)
                done = subprocess.run(
                    ["mpirun", "--allow-run-as-root", "--bind-to", "none",
                     *(str(word) for key, value in mca.items() for word in ("--mca", key, value)),
                     "-H", ",".join(f"{NET}.{host}:1" for host in range(1, HOSTS + 1)), "-n", str(HOSTS),
                     "sh", "-c", f"hostname >> {hosts}; exec \"$0\" \"$@\"", SQUISH, *job, shared],
                    capture_output=True, text=True, timeout=120, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(sorted(hosts.read_text().split()), [f"host{i}" for i in range(1, HOSTS + 1)])
                if alone.is_dir():
                    self.assertEqual(corpus.bytes_of(shared), corpus.bytes_of(alone))
                else:
                    self.assertEqual(shared.read_bytes(), alone.read_bytes())


if __name__ == "__main__":
    unittest.main()

"""Several ranks of MPI on one job end in the bytes of one process, whatever is killed on the way."""
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/hostile"))
import corpus  # noqa: E402
from corpus import bytes_of  # noqa: E402

SQUISH = pathlib.Path(os.environ.get("SQUISH_BINARY", ROOT / "build/release/squish"))
SANITIZED = bool(os.environ.get("SQUISH_SANITIZE"))
KILLS = int(os.environ.get("SQUISH_KILLS", "3"))
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]


def children(pid):
    """The processes that it started."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


@unittest.skipIf(shutil.which("mpirun") is None, "there is no mpirun")
@unittest.skipIf(SANITIZED, "MPI's own leaks are not ours")
class Ranks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.place.name).resolve()
        corpus.model(cls.folder / "model")
        (cls.folder / "text").write_text("".join(f" line {i}\n" for i in range(400)))
        cls.run_ranks(1, "calibrate", "model", "-o", "calib", "--text", "text", "--ctx", "96")

    @classmethod
    def tearDownClass(cls):
        cls.place.cleanup()

    @classmethod
    def command(cls, ranks, words):
        return [*(MPIRUN + ["-n", str(ranks)] if ranks > 1 else []), SQUISH, *words]

    @classmethod
    def run_ranks(cls, ranks, *words, code=0):
        done = subprocess.run(cls.command(ranks, words), cwd=cls.folder, capture_output=True, text=True, timeout=300,
                              check=False, env={**os.environ, "XDG_CACHE_HOME": str(cls.folder / "cache")})
        assert done.returncode == code, (words, done.returncode, done.stderr)
        return done

    def out(self):
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        return self.folder / "out"

    def kill_and_resume(self, job, begun, done, rng):
        """Kills a rank of the job at a random point after `begun` is there; then it goes on with any number of ranks."""
        longest = 0.6
        for _ in range(40):
            with subprocess.Popen(self.command(rng.choice((2, 3, 4)), [*job, "--resume"]), cwd=self.folder,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
                while running.poll() is None and not begun.exists():
                    time.sleep(0.002)
                time.sleep(rng.uniform(0, longest))
                with contextlib.suppress(ProcessLookupError, IndexError):  # it has ended
                    os.kill(rng.choice(children(running.pid)), 9)
                if running.wait(timeout=120) != 0 and not done.exists():
                    break
            longest *= 0.8  # it was faster
            shutil.rmtree(done.parent) if done.name == "squish.json" else done.unlink()
        else:
            self.fail("no rank could be killed")
        self.run_ranks(rng.choice((1, 2, 3, 4)), *job, "--resume")

    def test_quantize_ends_in_the_same_bytes(self):
        for job in (["--spec", "aqlm:m=2,b=4"], ["--spec", "quip:bits=3", "--calib", "calib"],
                    ["--spec", "vptq:v=4,k=16,r=2,share=role", "--calib", "calib"],
                    ["--spec", "int2;int3;int4;trellis:bits=2", "--target-bpw", "6", "--text", "text", "--calib", "calib"],
                    ["--spec", "trellis:bits=2", "--text", "text"],
                    ["--spec", "int3;quip:bits=2;trellis:bits=2", "--target-bpw", "3", "--text", "text", "--calib", "calib",
                     "--sequential", "--embed-bits", "4"],
                    ["--spec", "trellis:bits=2", "--sequential", "--text", "text"]):
            with self.subTest(job=job):
                out = self.out()
                self.run_ranks(1, "quantize", "model", "-o", "out", *job)
                alone = bytes_of(out)
                logged = sorted(json.loads(line)["tensor"] for line in (out / "squish.log.jsonl").read_text().splitlines())
                for ranks in (2, 4):
                    out = self.out()
                    self.run_ranks(ranks, "quantize", "model", "-o", "out", *job)
                    self.assertEqual(bytes_of(out), alone)
                    lines = (out / "squish.log.jsonl").read_text().splitlines()
                    self.assertEqual(sorted(json.loads(line)["tensor"] for line in lines), logged)
                self.run_ranks(2, "quantize", "model", "-o", "out", *job, "--resume")  # whole already
                self.assertEqual(bytes_of(out), alone)

    def test_calibrate_ends_in_the_same_bytes(self):
        job = ["calibrate", "model", "-o", "new", "--text", "text", "--ctx", "64", "--tokens", "2000", "--save-every", "0"]
        self.run_ranks(1, *job)
        alone = (self.folder / "new").read_bytes()
        for ranks in (2, 4):
            (self.folder / "new").unlink()
            self.run_ranks(ranks, *job)
            self.assertEqual((self.folder / "new").read_bytes(), alone)
        (self.folder / "new").unlink()
        rng = random.Random(7)
        for _ in range(KILLS):
            self.kill_and_resume(job, self.folder / "new.unfinished/block-0", self.folder / "new", rng)
            self.assertEqual((self.folder / "new").read_bytes(), alone)
            self.assertFalse((self.folder / "new.unfinished").exists())
            (self.folder / "new").unlink()

    def test_eval_finds_the_same(self):
        self.run_ranks(1, "quantize", "model", "-o", self.out(), "--spec", "int3")
        rows = []
        for ranks in (1, 2, 3):
            self.run_ranks(ranks, "eval", "out", "model", "--reference", "model", "--ppl-data", "text", "--ppl-tokens", "0",
                           "--ctx", "64", "--output", "r.json")
            result = json.loads((self.folder / "r.json").read_text())
            self.assertEqual(result["config"]["ranks"], ranks)
            rows.append([{key: row[key] for key in ("nll", "nll_se", "kld_mean", "kld_p99", "delta_nll", "top1_agreement")}
                         for row in result["rows"]])
        self.assertEqual(rows[1], rows[0])
        self.assertEqual(rows[2], rows[0])
        self.assertGreater(rows[0][0]["kld_mean"], 0)
        self.run_ranks(2, "eval", "out", "model", "--ppl-data", "text", "--ctx", "64", "--output", "r.json")

    def test_killed_ranks_lose_nothing(self):
        rng = random.Random(5)
        for job in (["--spec", "aqlm:m=2,b=6,g=4", "--calib", "calib"],
                    ["--spec", "trellis:bits=2", "--sequential", "--text", "text"]):
            job = ["quantize", "model", "-o", "out", *job]
            out = self.out()
            self.run_ranks(1, *job)
            alone = bytes_of(out)
            for _ in range(KILLS):
                self.out()
                self.kill_and_resume(job, out / "squish.job.json", out / "squish.json", rng)
                self.assertEqual(bytes_of(out), alone)
                self.assertFalse((out / "sequential").exists())

    def test_what_fails_is_said_once(self):
        for ranks, words, code, sentence in (
                (2, ["quantize", "nowhere", "-o", "new", "--spec", "int4"], 1, "nowhere"),
                (2, ["quantize", "model", "-o", "new", "--spec", "int99"], 2, "int99"),
                (3, ["run", "model", "-p", "x"], 2, "'squish run' runs as one process, found 3 ranks")):
            with self.subTest(words=words):
                said = re.findall("^squish: .*$", self.run_ranks(ranks, *words, code=code).stderr, re.M)
                self.assertEqual(len(said), 1, said)
                self.assertIn(sentence, said[0])
                self.assertFalse((self.folder / "new").exists())

    def test_a_rank_that_cannot_go_on_ends_the_job(self):
        # The leader's model is whole, the other rank's is not.
        corpus.model(self.folder / "whole")
        corpus.with_weight("model.layers.1.mlp.down_proj.weight", 3, float("nan"))(self.folder / "broken", None)
        script = self.folder / "each"
        script.write_text('#!/bin/sh\nln -sfn "$PWD/$([ "$OMPI_COMM_WORLD_RANK" = 0 ] && echo whole || echo broken)" '
                          f'"model$OMPI_COMM_WORLD_RANK"\nexec {SQUISH} quantize "model$OMPI_COMM_WORLD_RANK" -o mixed '
                          '--spec int4 --threads 1\n')
        script.chmod(0o755)
        done = subprocess.run([*MPIRUN, "-n", "2", script], cwd=self.folder, capture_output=True, text=True, timeout=100,
                              check=False)
        said = re.findall("^squish: .*$", done.stderr, re.M)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(len(said), 1, done.stderr)
        self.assertRegex(said[0], "rank 1: .*model1: expected the model that the first rank has, found another")
        self.assertFalse((self.folder / "mixed/squish.json").exists())


if __name__ == "__main__":
    unittest.main()

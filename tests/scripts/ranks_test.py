"""Several ranks of MPI on one job end in the bytes of one process, whatever is killed on the way."""
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
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
SEQUENTIAL = ["--sequential", "--text", "text", "--tokens", "300"]


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
        corpus.wide_model(cls.folder / "wide")  # whose matrices' rows are shared out
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
        for job in (["model", "--spec", "aqlm:m=2,b=4"], ["model", "--spec", "quip:bits=3", "--calib", "calib"],
                    ["model", "--spec", "vptq:v=4,k=16,r=2,share=role", "--calib", "calib"],
                    ["model", "--spec", "int2;int3;int4;trellis:bits=2", "--target-bpw", "6", "--text", "text", "--calib", "calib"],
                    ["model", "--spec", "trellis:bits=2", "--text", "text"],
                    ["model", "--spec", "int3;quip:bits=2;trellis:bits=2", "--target-bpw", "3", "--text", "text", "--calib",
                     "calib", "--sequential", "--embed-bits", "4"],
                    ["wide", "--spec", "trellis:bits=2,code=fast", *SEQUENTIAL],
                    ["wide", "--spec", "int2", "--tensor", "*.[vod]*_proj.weight=quip:bits=2", *SEQUENTIAL]):
            with self.subTest(job=job):
                out = self.out()
                self.run_ranks(1, "quantize", "-o", "out", *job)
                alone = bytes_of(out)
                logged = sorted(json.loads(line)["tensor"] for line in (out / "squish.log.jsonl").read_text().splitlines())
                for ranks in (2, 4):
                    out = self.out()
                    self.run_ranks(ranks, "quantize", "-o", "out", *job)
                    self.assertEqual(bytes_of(out), alone)
                    lines = (out / "squish.log.jsonl").read_text().splitlines()
                    self.assertEqual(sorted(json.loads(line)["tensor"] for line in lines), logged)
                self.run_ranks(2, "quantize", "-o", "out", *job, "--resume")  # whole already
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

    def kill_while(self, job, done, unfinished, is_left):
        """Two ranks of the job, killed as soon as is_left(), which still holds then."""
        for _ in range(40):
            for path in (done, unfinished):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            with subprocess.Popen(self.command(2, job), cwd=self.folder, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) as running:
                while running.poll() is None and not is_left():
                    time.sleep(0.001)
                for rank in children(running.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(rank, 9)
            if is_left():
                return
        self.fail("no rank could be killed in time")

    def expect_read(self, path, job):
        """One process that goes on with the job finds out that this file is damaged; it is mended again."""
        whole = path.read_bytes()
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1:])
        self.assertIn(path.name, self.run_ranks(1, *job, "--resume", code=1).stderr)
        path.write_bytes(whole)

    def test_one_process_goes_on_with_the_sums_that_ranks_left(self):
        job = ["calibrate", "wide", "-o", "new", "--text", "text", "--ctx", "64", "--save-every", "100000"]
        self.run_ranks(1, *job)
        alone = (self.folder / "new").read_bytes()
        unfinished = self.folder / "new.unfinished"

        def is_within_block():  # at its end all 32 are there, then they go
            parts = [file for file in unfinished.glob("part-0-*") if not file.suffix]
            return unfinished / "part-0-0" in parts and len(parts) < 32

        self.kill_while(job, self.folder / "new", unfinished, is_within_block)
        self.expect_read(unfinished / "part-0-0", job)
        self.run_ranks(1, *job, "--resume")
        self.assertEqual((self.folder / "new").read_bytes(), alone)
        self.assertFalse(unfinished.exists())
        (self.folder / "new").unlink()

    def test_a_sequential_job_goes_on_with_the_parts_that_ranks_left(self):
        job = ["quantize", "wide", "-o", "out", "--spec", "int3", "--sequential", "--text", "text", "--tokens", "0"]
        self.out()
        self.run_ranks(1, *job)
        alone = bytes_of((self.folder / "out"))
        # Activations behind the first half of a block; the sums of what o_proj is given.
        for stem in ("own-1-", "sums-0-1-"):
            with self.subTest(stem=stem):
                def left(stem=stem):
                    return [file for file in ((self.folder / "out") / "sequential").glob(stem + "*") if not file.suffix]

                self.kill_while(job, (self.folder / "out"), (self.folder / "out"), left)
                self.expect_read(left()[0], job)
                self.run_ranks(1, *job, "--resume")
                self.assertEqual(bytes_of((self.folder / "out")), alone)

    def test_stopped_ranks_save_and_one_of_them_says_so(self):
        job = ["calibrate", "wide", "-o", "new", "--text", "text", "--ctx", "2", "--tokens", "0", "--save-every", "100000"]
        self.run_ranks(1, *job)
        alone = (self.folder / "new").read_bytes()
        for _ in range(20):
            (self.folder / "new").unlink()
            with subprocess.Popen(self.command(2, job), cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                  text=True) as running:
                while running.poll() is None and not (self.folder / "new.unfinished/block-0").exists():
                    time.sleep(0.002)
                for rank in sorted(children(running.pid)):  # as scancel does, the first rank first
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(rank, signal.SIGTERM)
                said = running.communicate(timeout=100)[1]
            if not (self.folder / "new").exists():
                break
        else:
            self.fail("the job could not be stopped in time")
        self.assertEqual(running.returncode, 128 + signal.SIGTERM, said)
        self.assertEqual(said.count("stopping at the next place"), 1, said)
        self.assertEqual(len(re.findall("^squish: .*--resume goes on$", said, re.M)), 1, said)
        self.run_ranks(2, *job, "--resume")
        self.assertEqual((self.folder / "new").read_bytes(), alone)
        (self.folder / "new").unlink()

    def test_a_launcher_that_mpi_knows_nothing_of(self):
        for variables, sentence in (
                ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE says 2 ranks, MPI says 1: "),
                ({"PMI_SIZE": "3"}, "PMI_SIZE says 3 ranks, MPI says 1: "),
                ({"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "2"}, "SLURM_STEP_NUM_TASKS says 2 ranks, MPI says 1: "),
                ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1"},
                 "expected srun --mpi=pmix"),
                # A batch script, a shell of salloc's, one rank alone: nobody else is there.
                ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}, None),
                ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_ID": "4294967290"}, None),
                ({"OMPI_COMM_WORLD_SIZE": "1", "SLURM_STEP_NUM_TASKS": "4"}, None)):
            with self.subTest(variables=variables):
                done = subprocess.run([SQUISH, "quantize", "model", "-o", "new", "--spec", "int4", "--dry-run"],
                                      cwd=self.folder, capture_output=True, text=True, timeout=60, check=False,
                                      env={**os.environ, **variables})
                self.assertEqual(done.returncode, 1 if sentence else 0, done.stderr)
                if sentence:
                    self.assertRegex(done.stderr, f"^squish: .*{re.escape(sentence)}.*\n$")

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
        for job in (["model", "--spec", "aqlm:m=2,b=6,g=4", "--calib", "calib"],
                    ["wide", "--spec", "trellis:bits=2,code=fast", *SEQUENTIAL]):
            job = ["quantize", "-o", "out", *job]
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

    def test_what_another_rank_says_holds_no_control_characters(self):
        script = self.folder / "full"
        script.write_text('#!/bin/sh\ntrap "" XFSZ\n[ "$OMPI_COMM_WORLD_RANK" = 0 ] || ulimit -f 0\n'
                          f'exec {SQUISH} quantize model -o "$1" --spec int4 --threads 1\n')
        script.chmod(0o755)
        done = subprocess.run([*MPIRUN, "-n", "2", script, "o\x1but"], cwd=self.folder, capture_output=True, text=True,
                              timeout=100, check=False)
        said = re.findall("^squish: .*$", done.stderr, re.M)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(len(said), 1, done.stderr)
        self.assertIn("rank 1: o\\x1but/", said[0])
        self.assertNotIn("\x1b", done.stderr)


if __name__ == "__main__":
    unittest.main()

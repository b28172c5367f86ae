"""Whatever call of a job fails (an open, a map, a write, a sync, a rename ..., or one for memory), it ends in one sentence
or in the right result; then --resume reaches the bytes of a job that was never disturbed. Of a bench every tenth is tried;
of the calls for memory the first 40 and a sample of the rest; with SQUISH_ALL_FAULTS all, and the first 500 and more."""
import fcntl
import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import unittest

import corpus
from corpus import bytes_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
SQUISH = pathlib.Path(os.environ.get("SQUISH_BINARY", ROOT / "build/release/squish"))
SANITIZED = bool(os.environ.get("SQUISH_SANITIZE"))
ALL = bool(os.environ.get("SQUISH_ALL_FAULTS"))
FIRST_OF_MEMORY, OTHERS_OF_MEMORY = (500, 500) if ALL else (40, 40)


@unittest.skipIf(SANITIZED, "a sanitizer wants to be loaded first")
class Faults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.place.name).resolve()
        cls.library = cls.folder / "faults.so"
        subprocess.run(["g++", "-std=c++20", "-O1", "-shared", "-fPIC", pathlib.Path(__file__).parent / "faults.cc", "-o",
                        cls.library, "-ldl"], check=True)
        corpus.model(cls.folder / "model")
        (cls.folder / "text").write_text("".join(f" line {i}\n" for i in range(60)))

    @classmethod
    def tearDownClass(cls):
        cls.place.cleanup()

    def run_job(self, words, of="files", fault=0, count=None):
        more = {"LD_PRELOAD": str(self.library), "FAULT_DIR": str(self.folder), "FAULT_AT": str(fault), "FAULT_OF": of,
                "XDG_CACHE_HOME": str(self.folder / "cache")}
        if count:
            more["FAULT_COUNT"] = str(count)
        return subprocess.run([SQUISH, *words, "--threads", "1"], cwd=self.folder, capture_output=True, text=True,
                              env={**os.environ, **more}, timeout=120, check=False)

    def clean(self, out):
        for left in (out, self.folder / "cache", *self.folder.glob(out.name + ".*")):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)

    def every_call(self, words, out, of, result=bytes_of, resumes=True):
        """`words` with absolute paths write `out`, of which `result` is what two runs share."""
        count = pathlib.Path(tempfile.gettempdir()) / f"squish-faults-{os.getpid()}"
        self.clean(out)
        done = self.run_job(words, of, count=count)
        self.assertEqual(done.returncode, 0, done.stderr)
        calls = range(1, int(count.read_text()) + 1)
        count.unlink()
        if of == "memory":
            others = calls[FIRST_OF_MEMORY:]
            wanted = OTHERS_OF_MEMORY if resumes else OTHERS_OF_MEMORY // 4  # a bench is slow
            calls = [*calls[:FIRST_OF_MEMORY], *sorted(random.Random(1).sample(others, wanted))]
        elif not resumes and not ALL:
            calls = calls[::10]
        whole = result(out)
        failed = 0
        for call in calls:
            with self.subTest(of=of, call=call):
                self.clean(out)
                done = self.run_job(words, of, fault=call)
                self.assertIn(done.returncode, (0, 1), done.stderr)
                if done.returncode == 0:
                    self.assertEqual(result(out), whole)
                    continue
                failed += 1
                said = [line for line in done.stderr.replace("\r", "\n").split("\n") if line.startswith("squish: ")]
                self.assertEqual(len(said), 1, done.stderr)
                reasons = said
                if "rows failed" in said[0]:  # of a bench, whose others are there
                    results = json.loads(out.read_text())
                    reasons = [row["status"] for row in results["stage1"] + results["stage2"] if row["status"] != "ok"]
                    out.unlink()
                for reason in reasons:
                    self.assertRegex(reason, "memory" if of == "memory" else "error|space|memory|cannot")
                if not resumes and call % 50 != 1:
                    self.assertFalse(out.exists())
                    continue
                again = self.run_job([*words, "--resume"] if resumes else words)
                self.assertEqual(again.returncode, 0, again.stderr)
                self.assertEqual(result(out), whole)
        self.assertGreater(failed, len(calls) // 3)
        return len(calls)

    def check_quantize(self, of):
        out = self.folder / "out"
        return self.every_call(["quantize", self.folder / "model", "-o", out, "--spec", "int4:g=16"], out, of)

    def check_calibrate(self, of):
        out = self.folder / "made.calib"
        return self.every_call(["calibrate", self.folder / "model", "--text", self.folder / "text", "-o", out,
                                "--save-every", "0", "--tokens", "300", "--ctx", "96"], out, of)

    def check_bench(self, of):
        def rows_of(out):
            results = json.loads(out.read_text())
            return [(row["spec"], row["bpw"], row["snr_db"]) for row in results["stage1"]], [
                (row["spec"], row["nll"]) for row in results["stage2"]]
        out = self.folder / "results.json"
        return self.every_call(["bench", "--rows", "16", "--cols", "32", "--model-dir", self.folder / "model",
                                "--methods", "int4:g=16", "--ppl-data", self.folder / "text", "--ctx", "96",
                                "--ppl-tokens", "192", "--tps-tokens", "4", "--output", out], out, of, rows_of,
                               resumes=False)

    def test_directories_that_cannot_be_locked(self):
        """As on NFS, which locks files alone."""
        out = self.folder / "out"
        words = ["quantize", self.folder / "model", "-o", out, "--spec", "int4:g=16", "--resume"]
        self.clean(out)
        out.mkdir()
        with open(out / ".squish.lock", "w", encoding="utf-8") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            done = self.run_job(words, "locks")
            self.assertEqual((done.returncode, done.stderr), (1, f"squish: {out}: another squish is writing there\n"))
        self.assertEqual(self.run_job(words, "locks").returncode, 0)
        self.assertEqual(self.run_job(["verify", out]).returncode, 0)

    def test_quantize(self):
        self.assertGreater(self.check_quantize("files"), 60)

    def test_calibrate(self):
        self.assertGreater(self.check_calibrate("files"), 8)

    def test_bench(self):
        self.assertGreater(self.check_bench("files"), 20)

    def test_memory_of_quantize(self):
        self.check_quantize("memory")

    def test_memory_of_calibrate(self):
        self.check_calibrate("memory")

    def test_memory_of_bench(self):
        self.check_bench("memory")


if __name__ == "__main__":
    unittest.main()

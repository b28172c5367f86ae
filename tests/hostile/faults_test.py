"""Whatever call of a job fails (an open, a map, a write, a sync, a rename ...), it ends in one sentence or in the right
result; then --resume reaches the bytes of a job that was never disturbed."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import corpus
from corpus import bytes_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
SQUISH = pathlib.Path(os.environ.get("SQUISH_BINARY", ROOT / "build/release/squish"))
SANITIZED = bool(os.environ.get("SQUISH_SANITIZE"))


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

    def run_job(self, words, fault=0, count=None):
        more = {"LD_PRELOAD": str(self.library), "FAULT_DIR": str(self.folder), "FAULT_AT": str(fault),
                "XDG_CACHE_HOME": str(self.folder / "cache")}
        if count:
            more["FAULT_COUNT"] = str(count)
        return subprocess.run([SQUISH, *words, "--threads", "1"], cwd=self.folder, capture_output=True, text=True,
                              env={**os.environ, **more}, timeout=120, check=False)

    def every_call(self, words, out, least):
        """`words` with absolute paths write `out`."""
        count = pathlib.Path(tempfile.gettempdir()) / f"squish-faults-{os.getpid()}"
        self.assertEqual(self.run_job(words, count=count).returncode, 0)
        calls = int(count.read_text())
        count.unlink()
        self.assertGreater(calls, least)
        whole = bytes_of(out)
        failed = 0
        for call in range(1, calls + 1):
            with self.subTest(call=call):
                shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
                for left in self.folder.glob(out.name + ".*"):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
                done = self.run_job(words, fault=call)
                self.assertIn(done.returncode, (0, 1), done.stderr)
                if done.returncode == 0:
                    self.assertEqual(bytes_of(out), whole)
                    continue
                failed += 1
                said = [line for line in done.stderr.replace("\r", "\n").split("\n") if line.startswith("squish: ")]
                self.assertEqual(len(said), 1, done.stderr)
                self.assertRegex(said[0], "error|space|memory|cannot")
                again = self.run_job([*words, "--resume"])
                self.assertEqual(again.returncode, 0, again.stderr)
                self.assertEqual(bytes_of(out), whole)
        self.assertGreater(failed, calls // 3)

    def test_quantize(self):
        out = self.folder / "out"
        self.every_call(["quantize", self.folder / "model", "-o", out, "--spec", "int4:g=16"], out, 60)

    def test_calibrate(self):
        out = self.folder / "made.calib"
        self.every_call(["calibrate", self.folder / "model", "--text", self.folder / "text", "-o", out, "--save-every",
                         "0", "--tokens", "300", "--ctx", "96"], out, 8)


if __name__ == "__main__":
    unittest.main()

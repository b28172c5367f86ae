"""bench/peers/run.py: what is not there is left out with a sentence, what is raced comes in turn, ratios are of one round."""
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import types
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = ROOT / "bench/peers"
sys.path.insert(0, str(PEERS))


class Peers(unittest.TestCase):
    def test_says_what_is_left_out(self):
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder) / "none.gguf"
            model.touch()
            done = subprocess.run([sys.executable, PEERS / "run.py", "matrix", "model", "--squish", "squish", "--model", model,
                                   "--work", model.parent / "work", "--results", folder], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.splitlines(), ["matrix: it needs --calib; left out", "model: it needs --calib; left out"])

    def test_a_peer_that_is_not_there_is_named_with_what_was_expected(self):
        from llama_cpp import IK, MAINLINE, Runtime, Types
        from common import Missing, checkout, package
        nothing = types.SimpleNamespace(llama=None, ik_ggml=None)
        for find, words in ((lambda: Runtime("llama", MAINLINE, []).find(nothing), ("llama-bench", "--llama DIR", MAINLINE)),
                            (lambda: Types("ik_ggml", IK, {}).find(nothing), ("--ik-ggml FILE", IK)),
                            (lambda: checkout(None, "https://x", "abc"), ("https://x", "abc")),
                            (lambda: checkout(tempfile.gettempdir(), "https://x", "abc"), ("no checkout", "https://x")),
                            (lambda: package("no-such-package"), ("no-such-package", "not installed"))):
            with self.assertRaises(Missing) as caught:
                find()
            for word in words:
                self.assertIn(word, str(caught.exception))

    def test_a_checkout_at_another_commit_is_refused(self):
        from common import Missing, checkout
        with tempfile.TemporaryDirectory() as folder:
            git = ["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@t"]
            subprocess.run([*git, "init", "-q"], check=True)
            subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "t"], check=True)
            head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
            self.assertEqual(checkout(folder, "https://x", head), {"repository": "https://x", "commit": head})
            with self.assertRaises(Missing):
                checkout(folder, "https://x", "abc")
            self.assertEqual(checkout(folder, "https://x", "abc", any_commit=True)["commit"], head)

    def test_every_peer_has_what_its_task_asks_for(self):
        from common import peers_of
        names = {"matrix": {"find", "Peer", "SETTINGS", "CALIBRATED", "CASES"}}
        self.assertEqual({name for name, _ in peers_of("matrix")},
                         {"aqlm", "glq", "gguf", "gptq", "quip_sharp", "squish_ai", "vptq"})
        for name, module in peers_of("matrix"):
            self.assertLessEqual(names["matrix"], set(vars(module)), name)
        for task in ("speed", "model"):
            for name, module in peers_of(task):
                self.assertTrue(callable(module.PEER.find), f"{task} {name}")

    def test_a_work_folder_is_of_one_model(self):
        from common import claim, make
        with tempfile.TemporaryDirectory() as folder:
            work, model = pathlib.Path(folder) / "work", pathlib.Path(folder) / "m"
            work.mkdir()
            model.write_text("a")
            options = types.SimpleNamespace(model=model, calib=None)
            claim(work, options)
            claim(work, options)
            model.write_text("ab")
            with self.assertRaises(SystemExit):
                claim(work, options)
            with self.assertRaises(SystemExit):  # what fails leaves nothing that looks whole
                make(work / "made", ["sh", "-c", 'mkdir "$0"; exit 1', work / "made"])
            self.assertFalse((work / "made").exists())
            make(work / "made", ["sh", "-c", 'mkdir "$0"', work / "made"])
            (work / "made-of.json").unlink()
            with self.assertRaises(SystemExit):  # somebody else's
                claim(work, options)
            self.assertTrue((work / "made").is_dir())

    def test_claims_are_of_what_was_run(self):
        run = importlib.import_module("run")
        lines = list(run.ratios_claimed({
            "matrix": [{"peer": "p", "ours_better_by_db": {"median": 0.25}, "time_ratio": {"median": 0.5}},
                       {"peer": "p", "ours_better_by_db": {"median": -0.125}, "time_ratio": {"median": 2}}],
            "model": [{"name": "ik iq2", "bits": 2.06, "kld_ratio": 3.25, "beaten_by": "squish t"}, {"name": "squish t"}],
            "speed": [{"what": "generate", "ours": "squish t", "theirs": "ik q", "median": 1.5, "min": 1, "max": 2,
                       "aim": 1.3}]}))
        self.assertEqual(lines, [
            "error, p: ours lower by -0.125 to +0.250 dB in 2 rows, in 0.500 to 2.000 of its time",
            "KL divergence, ik iq2 (2.060 bits) over squish t: 3.25",
            "tokens/s, generate: squish t / ik q: 1.50 (1.00 to 2.00) (aim 1.3)"])

    @unittest.skipUnless(importlib.util.find_spec("gguf"), "the Python package gguf is not installed")
    def test_racers_take_turns(self):
        speed = importlib.import_module("speed")
        order, results = [], pathlib.Path(tempfile.mkdtemp())

        def racer(name, rates):
            return lambda: (order.append(name), next(rates))[1]

        rates = {"squish int4": iter([(20, 90), (10, 80), (30, 70)]), "ik Q4_0": iter([(10, 90), (10, 40), (10, 70)])}
        speed.contestants = lambda options, peers: {name: racer(name, values) for name, values in rates.items()}
        speed.write = lambda path, *_, **more: path.write_text(json.dumps(more))
        speed.main(types.SimpleNamespace(rounds=3, results=results, ours=["int4"], note=""))
        self.assertEqual(order, ["squish int4", "ik Q4_0"] * 3)
        written = json.loads((results / "peers-speed.json").read_text())
        self.assertEqual(written["ratios"]["generate: squish int4 / ik Q4_0"], {"median": 2, "min": 1, "max": 3})
        self.assertEqual([aim["aim"] for aim in written["aims"]], [1.3])


if __name__ == "__main__":
    unittest.main()

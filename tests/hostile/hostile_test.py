"""Every file of the corpus gets the one sentence that sentences.tsv has for it, quickly, within little memory, and leaves
nothing that looks whole. `hostile_test.py --write` writes the table from what the program says, to be read by a person."""
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import unittest

import corpus

ROOT = pathlib.Path(__file__).resolve().parents[2]
SQUISH = pathlib.Path(os.environ.get("SQUISH_BINARY", ROOT / "build/release/squish"))
TABLE = pathlib.Path(__file__).parent / "sentences.tsv"
SANITIZED = bool(os.environ.get("SQUISH_SANITIZE"))
MEMORY = 1 << 30  # of addresses; the largest file has 9 MB


def limit():
    if not SANITIZED:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def said(folder, name, words):
    """Exit code and the last line of standard error."""
    done = subprocess.run([SQUISH, *(word.replace("{}", name) for word in words), *(() if words[0] in ("inspect", "report") else (
        "--threads", "1"))], cwd=folder, capture_output=True, text=True, errors="replace", timeout=120, check=False,
                          preexec_fn=limit, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    lines = [line for line in done.stderr.replace("\r", "\n").split("\n") if line.startswith("squish: ")]
    return done.returncode, lines[-1].removeprefix("squish: ") if len(lines) == 1 else done.stderr


def sentences():
    return dict(line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines())


class Hostile(unittest.TestCase):
    def test_every_file_gets_its_sentence(self):
        expected = sentences()
        self.assertEqual(list(expected), [name for name, _, _ in corpus.CASES])
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            corpus.write(folder, SQUISH)
            for case, words, _ in corpus.CASES:
                with self.subTest(case=case):
                    self.assertEqual(said(folder, case, words), (1, expected[case]))
                    self.assertFalse((folder / f"{case}.html").exists())
                    self.assertFalse((folder / f"{case}.out/squish.json").exists())
            # What all of them were made from is fine.
            self.assertEqual(said(folder, "fine", corpus.EVAL)[0], 0)

    def test_names_reach_no_terminal_as_they_are(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            corpus.put(folder / "odd/config.json", {"architectures": ["\x1b[1mOdd"], "model_type": "odd"})
            corpus.put(folder / "odd/model.safetensors", corpus.safetensors({
                "up\x1b[2J.weight": ([8, 16], bytes(512)), "norm\x1b[31m": ([2], bytes(8))}))
            for words in (["quantize", "odd", "-o", "out", "--spec", "int4"], ["inspect", "out"], ["verify", "out"]):
                done = subprocess.run([SQUISH, *words], cwd=folder, capture_output=True, timeout=120, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertNotIn(b"\x1b", done.stdout + done.stderr, words)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        corpus.write(folder, SQUISH)
        TABLE.write_text("".join(f"{case}\t{said(folder, case, words)[1]}\n" for case, words, _ in corpus.CASES),
                         encoding="utf-8")


if __name__ == "__main__":
    main() if sys.argv[1:] == ["--write"] else unittest.main()

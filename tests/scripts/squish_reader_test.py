"""The worked examples of docs/format.md, as the page has them, and inputs that are to be refused."""
import re
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import squish_reader  # noqa: E402


def example(heading):
    """The paragraph `Example.` of a section, on one line."""
    section = squish_reader.PAGE.read_text(encoding="utf-8").split(f"\n### {heading}\n")[1]
    return " ".join(section.split("**Example.**")[1].split("\n\n")[0].split())


def hexadecimal(text):
    return bytes.fromhex(text)


class Examples(unittest.TestCase):
    def test_int(self):
        text = example("int2 to int8")
        q, scale = (hexadecimal(re.search(rf"`{name}` is `([0-9a-f ]+)`", text)[1])
                    for name in ("q", "scale"))
        weights = re.search(r"2 · \(0, 1\): ([−0-9. ]+)\. The second", text)[1].split()
        weights += re.search(r"and the weights ([−0-9. ]+)\.$", text)[1].split()
        found = squish_reader.decode("int3:sym=1,g=4,scale=f16", [2, 6], {"q": q, "scale": scale})
        expected = [float(w.replace("−", "-")) for w in weights]
        self.assertEqual(found.ravel().tolist(), expected)

    def test_trellis(self):
        text = example("trellis")
        codes = hexadecimal(re.search(r"`codes` = `([0-9a-f ]+)`", text)[1])
        unit, steps = re.search(r"the value ([\d.]+) · (-\d+); rows", text).groups()
        take = squish_reader.take_from({"codes": codes})
        found = squish_reader.trellis_columns(2.0, "fast", 10, 1, take)
        self.assertAlmostEqual(found[0, 0], float(re.search(r"= (-0\.\d+)\. Row 9", text)[1]), 7)
        self.assertAlmostEqual(found[9, 0], float(unit) * int(steps), 12)


class Refusals(unittest.TestCase):
    def test_sections_that_do_not_fit(self):
        for sections in ({}, {"q": b"12", "scale": b"1234"}, {"q": b"1", "scale": b"1234", "x": b""}):
            with self.assertRaises(ValueError):
                squish_reader.decode("int4:sym=1,g=0,scale=f32", [1, 2], sections)
        with self.assertRaises(ValueError):
            squish_reader.decode("int9:sym=1", [1, 2], {})

    def test_what_is_no_checkpoint(self):
        with tempfile.TemporaryDirectory() as folder:
            for text in ("", "{}", '{"format": "squish", "format_version": 2}'):
                Path(folder, "squish.json").write_text(text)
                with self.assertRaises(ValueError):
                    squish_reader.Checkpoint(folder)


class Rotations(unittest.TestCase):
    def test_are_orthogonal(self):
        for n in (1, 7, 12, 36, 52, 100, 172, 576):
            u = squish_reader.rotate(np.eye(n))
            self.assertLess(np.abs(u @ u.T - np.eye(n)).max(), 1e-12, n)


if __name__ == "__main__":
    unittest.main()

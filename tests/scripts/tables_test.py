"""Tables in documents are what the result files say."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts/tables.py"


class Tables(unittest.TestCase):
    def run_on(self, *words):
        return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False)

    def test_documents_are_current(self):
        done = self.run_on("--check")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_changed_figure_is_found(self):
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        figure = "0.5279 ± 0.0024"
        self.assertEqual(readme.count(figure), 1)
        with tempfile.NamedTemporaryFile("w", suffix=".md", encoding="utf-8") as file:
            file.write(readme.replace(figure, "0.4279 ± 0.0024"))
            file.flush()
            self.assertEqual(self.run_on("--check", file.name).returncode, 1)
            self.assertEqual(self.run_on(file.name).returncode, 0)
            self.assertEqual(self.run_on("--check", file.name).returncode, 0)
            self.assertIn(figure, pathlib.Path(file.name).read_text(encoding="utf-8"))


class Scale(unittest.TestCase):
    def test_the_simulation_is_of_the_stored_costs(self):
        results = ROOT / "docs/results"
        with tempfile.NamedTemporaryFile("r", suffix=".json", encoding="utf-8") as file:
            done = subprocess.run([sys.executable, ROOT / "bench/scale/simulate.py", "--costs",
                                   results / "scale-unit-costs.json", "-o", file.name, "--table"],
                                  capture_output=True, text=True, check=True)
            self.assertEqual(file.read(), (results / "scale-simulation.json").read_text(encoding="utf-8"))
        self.assertIn(done.stdout, (ROOT / "docs/scale.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    unittest.main()

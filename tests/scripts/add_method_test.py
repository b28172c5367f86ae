"""docs/add-a-method.md followed to the letter: the files it names are written beside copies of those it changes,
compiled and linked as the build does it, and what it promises is tried."""
import json
import os
import pathlib
import re
import shlex
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SQUISH = pathlib.Path(os.environ.get("SQUISH_BINARY", ROOT / "build/release/squish"))
BUILD = SQUISH.parent
PAGE = ROOT / "docs/add-a-method.md"
STEP = re.compile(r"^<!-- (file|after) ([^\s:]+)(?:: ([^\n]*))? -->\n```cpp\n(.*?)^```$", re.M | re.S)


def follow(folder):
    """Writes what the page says into `folder`; returns the files."""
    files = {}
    for kind, name, anchor, text in STEP.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "file":
            assert not (ROOT / name).exists(), f"{name} exists already"
            files[name] = text
            continue
        before = files.get(name) or (ROOT / name).read_text(encoding="utf-8")
        lines = before.splitlines(keepends=True)
        at = [i for i, line in enumerate(lines) if anchor in line]
        assert len(at) == 1, f"{name}: '{anchor}' stands there {len(at)} times"
        files[name] = "".join(lines[:at[0] + 1]) + text + "".join(lines[at[0] + 1:])
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return files


def compiled(folder, name, like=None):
    """The object of folder/name, compiled with the flags of `like`."""
    commands = json.loads((BUILD / "compile_commands.json").read_text())
    source = str(ROOT / (like or name))
    words = shlex.split(next(entry["command"] for entry in commands if entry["file"] == source))
    made = folder / (name.replace("/", "_") + ".o")
    words[words.index(source)] = str(folder / name)
    words[words.index("-o") + 1] = str(made)
    # Before the tree itself, whose registry.h is the old one.
    first = next(i for i, word in enumerate(words) if word.startswith("-I"))
    words.insert(first, f"-I{folder}")
    subprocess.run(words, cwd=BUILD, check=True)
    return made


def linked(target, folder, objects, instead_of=None):
    """`target` with `objects` in front of the library, and `instead_of` left out."""
    line = subprocess.run(["ninja", "-t", "commands", target], cwd=BUILD, check=True, capture_output=True,
                          text=True).stdout.splitlines()[-1]
    words = shlex.split(line.split("&&")[1])
    made = folder / (pathlib.Path(target).name + ".made")
    words[words.index("-o") + 1] = str(made)
    if instead_of:
        words = [word for word in words if not word.endswith(instead_of)]
    at = words.index("-o")
    subprocess.run([*words[:at], *map(str, objects), *words[at:]], cwd=BUILD, check=True)
    return made


class AddAMethod(unittest.TestCase):
    def test_the_page(self):
        folder = BUILD / "add-a-method"
        names = follow(folder)
        self.assertEqual(sorted(names), ["squish/quant/nf4.cc", "squish/quant/registry.cc", "squish/quant/registry.h",
                                         "tests/quant/all_methods_test.cc", "tests/quant/nf4_test.cc"])
        library = [compiled(folder, "squish/quant/nf4.cc", like="squish/quant/registry.cc"),
                   compiled(folder, "squish/quant/registry.cc")]
        squish = linked("squish", folder, library)
        listed = subprocess.run([squish, "methods"], check=True, capture_output=True, text=True).stdout
        self.assertIn("nf4: 16 quantiles", listed)
        output = folder / "bench.json"
        subprocess.run([squish, "bench", "--methods", "nf4;int4:sym=1", "--output", output], check=True,
                       capture_output=True)
        rows = {row["spec"]: row for row in json.loads(output.read_text())["stage1"]}
        table = dict(re.findall(r"^\| `(\S+)` \| 4\.500 \| ([\d.]+) \|$", PAGE.read_text(encoding="utf-8"), re.M))
        self.assertEqual(len(table), 2)
        for spec, snr in table.items():
            self.assertEqual(rows[spec]["bpw"], 4.5)
            self.assertEqual(f"{rows[spec]['snr_db']:.2f}", snr)

        tests = [compiled(folder, "tests/quant/all_methods_test.cc"),
                 compiled(folder, "tests/quant/nf4_test.cc", like="tests/quant/all_methods_test.cc")]
        suite = linked("tests/quant_test", folder, [*tests, *library], instead_of="all_methods_test.cc.o")
        filters = re.search(r"--gtest_filter='(.*)'", PAGE.read_text(encoding="utf-8"))[1]
        done = subprocess.run([suite, f"--gtest_filter={filters}"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-4000:])
        self.assertRegex(done.stdout, r"\[  PASSED  \] 1\d tests")


if __name__ == "__main__":
    unittest.main()

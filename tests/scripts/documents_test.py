"""What the documents tell people to type exists: commands, their flags, scripts, links."""
import os
import re
import subprocess
import unittest
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SQUISH = os.environ.get("SQUISH_BINARY", ROOT / "build/release/squish")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/**/*.md")])
FLAG = re.compile(r"(?<![\w-])--?[a-zA-Z][a-z0-9-]*")
COMMAND = re.compile(r"^(?:build/release/)?squish ([a-z]+)(.*)$")


@cache
def help_of(command):
    done = subprocess.run([SQUISH, command, "--help"], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


@cache
def flags_of(command):
    return set(FLAG.findall(help_of(command)))


def typed(text):
    """Lines of fenced blocks and what stands in backquotes, comments and line ends taken off."""
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, re.M | re.S):
        yield from re.sub(r"\\\n\s*", "", block).splitlines()
    for words in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)):
        yield " ".join(words.split())


class Documents(unittest.TestCase):
    def test_commands_and_flags_exist(self):
        seen = 0
        for document in DOCUMENTS:
            for line in typed(document.read_text(encoding="utf-8")):
                found = COMMAND.match(line.strip())
                if not found:
                    continue
                command, rest = found[1], re.sub(r"\s#.*|'[^']*'", "", found[2])
                with self.subTest(document=document.name, line=line):
                    self.assertIsNotNone(help_of(command), f"there is no squish {command}")
                    for flag in FLAG.findall(rest):
                        self.assertIn(flag, flags_of(command))
                        seen += 1
        self.assertGreater(seen, 20)

    def test_scripts_and_links_exist(self):
        for document in DOCUMENTS:
            text = document.read_text(encoding="utf-8")
            scripts = [line.split()[0] for line in typed(text)
                       if re.match(r"[\w.-]*/[\w./-]+\.(sh|py)(\s|$)", line)]
            prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
            links = re.findall(r"\]\((?!https?:|#)([^)#]+)", prose)
            for name, folder in [*((s, ROOT) for s in scripts), *((l, document.parent) for l in links)]:
                with self.subTest(document=document.name, name=name):
                    self.assertTrue((folder / name).exists())


if __name__ == "__main__":
    unittest.main()

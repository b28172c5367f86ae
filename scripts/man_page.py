#!/usr/bin/env python3
"""The manual page of `squish`, from what the program says with --help: scripts/man_page.py PROGRAM > squish.1"""
import re
import subprocess
import sys


def said(*words):
    return subprocess.run([sys.argv[1], *words], check=True, capture_output=True, text=True).stdout


def verbatim(text):
    lines = (line.replace("\\", "\\\\").replace("-", "\\-") for line in text.rstrip().splitlines())
    return "\n".join([".nf", *("\\&" + line for line in lines), ".fi"])


def main():
    whole = said("--help")
    version = said("--version").split()[1]
    commands = re.findall(r"^  ([a-z]+) {2,}(\S.*)$", whole[whole.index("Subcommands:"):], re.M)
    print(f'.TH SQUISH 1 "" "squish {version}" "User Commands"')
    print(".SH NAME\nsquish \\- extreme compression of language model weights, compared and done")
    print(".SH SYNOPSIS\n.B squish\n.I command\n[\\fIflags\\fR]")
    print(".SH DESCRIPTION\n" + verbatim(whole))
    print(".SH COMMANDS")
    for command, _ in commands:
        print(f".SS squish {command}\n" + verbatim(said(command, "--help")))


if __name__ == "__main__":
    main()

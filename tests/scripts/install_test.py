"""cmake --install gives a program with man page and completions, and a library that a project of somebody else's builds
on; cpack a .deb that names what it needs."""
import os
import pathlib
import shutil
import unittest

from package_tools import check_consumer, run

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SQUISH_BINARY", ROOT / "build/release/squish")).parent
SANITIZED = bool(os.environ.get("SQUISH_SANITIZE"))


@unittest.skipIf(SANITIZED, "programs of others are not built with sanitizers")
class Install(unittest.TestCase):
    def setUp(self):
        self.folder = BUILD / "install-test"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        run("cmake", "--build", BUILD, "--target", "squish_documents")

    def test_what_is_installed_serves(self):
        prefix = self.folder / "prefix"
        run("cmake", "--install", BUILD, "--prefix", prefix)
        squish = prefix / "bin/squish"
        self.assertIn("squish 0.", run(squish, "--version"))
        page = run("man", "-l", prefix / "share/man/man1/squish.1") if shutil.which("man") else (
            prefix / "share/man/man1/squish.1").read_text()
        for word in ("quantize", "SYNOPSIS", "sequential"):
            self.assertIn(word, page)

        script = prefix / "share/bash-completion/completions/squish"
        for words, expected in (("squish qua", "quantize"), ("squish bench --mod", "--model-dir"),
                                ("squish quantize --seq", "--sequential")):
            parts = words.split()
            done = run("bash", "-c", f"source '{script}'; COMP_WORDS=({words}); COMP_CWORD={len(parts) - 1}; _squish; "
                       "echo \"${COMPREPLY[@]}\"")
            self.assertEqual(done.split(), [expected])
        zsh = (prefix / "share/zsh/vendor-completions/_squish").read_text()
        self.assertTrue(zsh.startswith("#compdef squish\n"))
        if shutil.which("zsh"):
            run("zsh", "-n", prefix / "share/zsh/vendor-completions/_squish")

        consumer = self.folder / "consumer"
        run("cmake", "-S", ROOT / "tests/data/consumer", "-B", consumer, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}",
            "-DCMAKE_BUILD_TYPE=Release")
        run("cmake", "--build", consumer)
        check_consumer(self, run(consumer / "consumer"))

    @unittest.skipUnless("bookworm" in pathlib.Path("/etc/os-release").read_text(), "packages have Debian 12's names")
    def test_a_package_names_what_it_needs(self):
        run("cpack", "--config", BUILD / "CPackConfig.cmake", "-B", self.folder)
        package, = self.folder.glob("*.deb")
        self.assertRegex(package.name, r"^squish_0\.\d+\.\d+_amd64\.deb$")
        needs = run("dpkg-deb", "-f", package, "Depends")
        for library in ("libopenblas0", "libfmt9", "libpcre2-8-0", "libutf8proc2", "libssl3", "liblapacke"):
            self.assertIn(library, needs)
        files = run("dpkg-deb", "-c", package)
        for name in ("./usr/bin/squish", "/cmake/squish/squish-config.cmake",
                     "./usr/share/man/man1/squish.1"):
            self.assertIn(name, files)


if __name__ == "__main__":
    unittest.main()

"""The .deb in a Debian made by debootstrap for it: the program runs on what the package depends on, and a project of
somebody else's builds against the library on what it suggests besides."""
import json
import os
import pathlib
import shutil
import tempfile
import unittest

from package_tools import check_consumer, run

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SQUISH_BINARY", ROOT / "build/release/squish")).parent
APT = ("apt-get", "install", "-y", "-qq", "--no-install-recommends")


@unittest.skipIf(os.environ.get("SQUISH_SANITIZE"), "packages are made of release builds")
@unittest.skipUnless("bookworm" in pathlib.Path("/etc/os-release").read_text(), "packages have Debian 12's names")
@unittest.skipUnless(shutil.which("debootstrap") and os.geteuid() == 0, "needs debootstrap, as root")
class CleanRoot(unittest.TestCase):
    def run_inside(self, *words):
        return run("chroot", self.root, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", *words)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.root = self.folder / "root"
        run("cmake", "--build", BUILD, "--target", "squish_documents")
        run("cpack", "--config", BUILD / "CPackConfig.cmake", "-B", self.folder)
        self.package, = self.folder.glob("*.deb")
        run("debootstrap", "--variant=minbase", "bookworm", self.root)
        shutil.copy(self.package, self.root / "tmp")

    def test_the_package_stands_alone(self):
        self.run_inside(*APT, f"/tmp/{self.package.name}")
        self.assertIn("squish 0.", self.run_inside("squish", "--version"))
        self.run_inside("squish", "bench", "--rows", "64", "--cols", "128", "--output", "/tmp/results.json")
        rows = json.loads((self.root / "tmp/results.json").read_text())["stage1"]
        self.assertGreaterEqual({row["method"] for row in rows}, {"int4", "vptq", "aqlm", "quip", "trellis"})

        suggested = run("dpkg-deb", "-f", self.package, "Suggests").strip().split(", ")
        self.run_inside(*APT, "g++", "cmake", "ninja-build", *suggested)
        shutil.copytree(ROOT / "tests/data/consumer", self.root / "tmp/consumer")
        self.run_inside("cmake", "-S", "/tmp/consumer", "-B", "/tmp/built", "-G", "Ninja")
        self.run_inside("cmake", "--build", "/tmp/built")
        check_consumer(self, self.run_inside("/tmp/built/consumer"))

        self.run_inside("dpkg", "--purge", "squish")
        self.assertFalse((self.root / "usr/bin/squish").exists())


if __name__ == "__main__":
    unittest.main()

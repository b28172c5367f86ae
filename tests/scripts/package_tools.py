"""What the tests of packages share."""
import subprocess


def run(*words, **more):
    """What it prints; a failure's output is in the message."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, **more)
    if done.returncode != 0:
        raise AssertionError(f"{words}: {done.stdout}{done.stderr}")
    return done.stdout


def check_consumer(test, printed):
    """What tests/data/consumer prints: bits and SNR of a matrix compressed by the installed library."""
    bits, _, snr, _ = printed.split()
    test.assertLess(float(bits), 3.1)
    test.assertGreater(float(snr), 16)

"""Runs a program, prints how long it took, and ends with its exit code.

python scripts/timed.py NAME PROGRAM [ARGUMENT]...
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time


def main() -> int:
    name, *argv = sys.argv[1:]
    began = time.monotonic()
    child = subprocess.Popen(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which has it too
    code = child.wait()
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"{name}: {minutes} min {seconds} s", flush=True)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())

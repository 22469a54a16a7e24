from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from orchestrator.brokers.lock import locked

HOLDER = """
import sys
from pathlib import Path
from orchestrator.brokers.lock import locked
with locked(Path(sys.argv[1]), lambda: None):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_waits_and_says_so_until_the_first_is_killed(tmp_path: Path) -> None:
    path, waits = tmp_path / "deep" / "lock", threading.Event()
    words = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"

        def second() -> None:
            with locked(path, waits.set):
                pass

        waiting = threading.Thread(target=second)
        waiting.start()
        assert waits.wait(10)
        assert waiting.is_alive()
        holder.kill()
        waiting.join(10)
        assert not waiting.is_alive()


def test_free_again_afterwards(tmp_path: Path) -> None:
    waited: list[int] = []
    for _ in range(2):
        with locked(tmp_path / "lock", lambda: waited.append(1)):
            pass
    assert waited == []

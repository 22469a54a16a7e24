"""`python saboteur.py COMMAND…`: runs a program of the `exec:` protocol and does to it what an order's `userId` says.

`crash` kills it with SIGSEGV, `hang` stops it, `garbage` puts a line beside its answers. All else goes to and fro.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    (theirs_in, requests), (replies, theirs_out) = os.pipe(), os.pipe()
    redirect = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out} {theirs_in}<&- {theirs_out}>&-'
    child = subprocess.Popen(["bash", "-c", redirect, "-", *sys.argv[1:]], pass_fds=(theirs_in, theirs_out))
    os.close(theirs_in)
    os.close(theirs_out)

    unanswered, changed = 0, threading.Condition()

    def answer() -> None:
        nonlocal unanswered
        with os.fdopen(replies, "rb") as source:
            for line in source:
                os.write(4, line)
                with changed:
                    unanswered -= 1
                    changed.notify()

    answers = threading.Thread(target=answer)
    answers.start()
    with os.fdopen(3, "rb") as source, os.fdopen(requests, "wb", buffering=0) as sink:
        for line in source:
            user = (json.loads(line)["value"] or {}).get("userId")
            if user in ("crash", "hang", "garbage"):
                with changed:  # what came before it is none of its business
                    changed.wait_for(lambda: unanswered == 0, 10)  # noqa: B023
            if user == "garbage":
                os.write(4, b"not a reply\n")
            elif user == "crash":
                child.send_signal(signal.SIGSEGV)
                child.wait()
                os.kill(os.getpid(), signal.SIGSEGV)
            elif user == "hang":
                child.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, child.pid, os.WSTOPPED)  # until then another thread of it may read on
            with changed:
                unanswered += 1
            try:
                sink.write(line)
            except BrokenPipeError:
                break
    number = -child.wait()
    answers.join()
    if number > 0:
        os.kill(os.getpid(), number)  # it was killed: so is this


if __name__ == "__main__":
    main()

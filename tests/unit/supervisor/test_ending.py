from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.supervisor.ending import Ending, ending, failure
from orchestrator.supervisor.policy import Life, State
from orchestrator.supervisor.spec import ChildExit, ChildSpec

S = State


def child(name: str, state: State, *, essential: bool = False, stage: int = 1, restarts: int = 0, code: int = 5):
    spec = ChildSpec(name, ("x",), Path(), {}, essential=essential, stage=stage, failure_code=code)
    return spec, Life(state=state, restarts=restarts)


CASES = [
    ("nothing to end", [child("a", S.READY), child("b", S.STARTING)], None),
    ("one rests, one runs", [child("a", S.CRASH_LOOP), child("b", S.READY)], None),
    ("one rests, one is about to come back", [child("a", S.CRASH_LOOP), child("b", S.BACKING_OFF)], None),
    ("could not start at all", [child("a", S.FAILED_TO_START), child("b", S.READY)], 5),
    ("could not start again later", [child("a", S.FAILED_TO_START, restarts=3), child("b", S.READY)], None),
    ("essential", [child("a", S.CRASH_LOOP, essential=True), child("b", S.READY)], 5),
    ("the broker", [child("k", S.CRASH_LOOP, essential=True, stage=0, code=4), child("b", S.READY)], 4),
    ("none left", [child("a", S.CRASH_LOOP), child("b", S.STOPPED), child("k", S.READY, stage=0)], 5),
    ("all done", [child("a", S.STOPPED), child("b", S.STOPPED), child("k", S.READY, stage=0)], 0),
    ("no handlers: the broker alone is kept", [child("k", S.READY, stage=0)], None),
    ("nothing at all", [], None),
]


@pytest.mark.parametrize(("children", "code"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_ending(children: list[tuple[ChildSpec, Life]], code: int | None) -> None:
    found = ending(children)
    assert (found.code if found else None) == code


@pytest.mark.parametrize(
    ("state", "terminated", "exit", "fails"),
    [
        (S.STOPPED, True, ChildExit(code=0), False),
        (S.STOPPED, True, ChildExit(code=143), False),
        (S.STOPPED, True, ChildExit(signal=15), False),
        (S.STOPPED, True, ChildExit(signal=9), True),
        (S.STOPPED, True, ChildExit(code=1), True),
        (S.STOPPED, True, ChildExit(), True),
        (S.STOPPED, False, ChildExit(code=0), False),
        (S.STOPPED, False, None, False),
        (S.READY, False, None, False),
        (S.BACKING_OFF, False, ChildExit(code=1), False),
        (S.CRASH_LOOP, False, ChildExit(code=1), True),
        (S.FAILED, False, ChildExit(code=1), True),
    ],
)
def test_what_counts_as_a_failure(state: State, terminated: bool, exit: ChildExit | None, fails: bool) -> None:
    spec, life = child("a", state)
    found = failure(spec, replace(life, terminated=terminated, exit=exit))
    assert (found is not None) == fails
    assert found is None or found == Ending(5, found.reason)

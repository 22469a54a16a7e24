"""The pipeline file: text to a frozen `Pipeline`, or everything that is wrong with it.

`load` reads files, `build` takes the plain tree that another process loaded (`portable` and `restored` are the two ends
of its way). They are imported when they are first
used: whoever only needs `config.model` pays for no YAML parser and no JSON Schema compiler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.config.building import build, portable, restored
    from orchestrator.config.loading import Loaded, load

__all__ = ["Loaded", "build", "load", "portable", "restored"]


def __getattr__(name: str) -> Any:
    if name in ("build", "portable", "restored"):
        from orchestrator.config import building

        return getattr(building, name)
    if name in __all__:
        from orchestrator.config import loading

        return getattr(loading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

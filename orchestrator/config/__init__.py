"""The pipeline file: text to a frozen `Pipeline`, or everything that is wrong with it."""

from __future__ import annotations

from orchestrator.config.load import Loaded, build, load
from orchestrator.config.model import Pipeline

__all__ = ["Loaded", "Pipeline", "build", "load"]

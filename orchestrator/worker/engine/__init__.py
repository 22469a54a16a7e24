"""Runs events: one at a time or several, the fast path, retries in order, when to pause."""

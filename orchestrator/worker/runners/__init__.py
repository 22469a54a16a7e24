"""The kinds of handlers: `python:`, `http:`, `exec:`, and what each kind speaks."""

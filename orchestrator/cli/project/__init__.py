"""Commands for a project's files: create, check, try."""

"""One running pipeline: its broker, its child processes, its control API, and reloading."""

"""Which offsets are finished, what a commit carries, and where reading starts."""

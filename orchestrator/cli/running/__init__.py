"""Commands for one running pipeline: start, stop, look at it."""

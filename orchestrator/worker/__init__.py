"""One worker process: consumes events, runs the handler, produces its outputs, commits."""

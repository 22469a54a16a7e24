"""The headers that kpipe writes: of dead letters, of redriven letters, of outputs."""

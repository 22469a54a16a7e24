"""The command `kpipe`: parses the command line, calls `operations` or `up`, prints."""

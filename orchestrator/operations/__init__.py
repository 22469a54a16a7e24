"""What can be asked of a project and its cluster. Returns values; prints nothing and parses no command line."""

"""How things are shown: text, tables and JSON on stdout and stderr. Used by `cli` only."""

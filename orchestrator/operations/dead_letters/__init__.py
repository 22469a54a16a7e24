"""Dead letters: read, grouped by cause, sent back, dropped."""

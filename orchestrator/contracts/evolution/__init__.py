"""Two versions of a schema compared: which values the new one no longer takes."""

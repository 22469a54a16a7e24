"""One event's causes and effects across all topics of a pipeline."""

"""From YAML text to checked plain values: parse, merge, interpolate, hold to the grammar."""

"""Commands for topics and their records on the cluster."""

"""Bringing the cluster's topics in line with the pipeline file."""

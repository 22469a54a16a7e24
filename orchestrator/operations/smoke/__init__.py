"""Smoke tests: a pipeline of their own, the steps of each scenario, and their results."""

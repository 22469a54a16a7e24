"""Sending events: from what the user gave to records that the broker has acknowledged."""

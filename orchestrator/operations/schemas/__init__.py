"""Contracts beside their earlier versions, and beside the records that are in the topics."""

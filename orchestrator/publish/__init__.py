"""Publishing events from services: in Python, and over HTTP for other languages."""

"""What a worker measures, and how it is shown to Prometheus."""

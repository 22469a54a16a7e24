"""The rules of delivery: pure functions and values without clock, thread or Kafka."""

"""From a handler's outputs to Kafka: records, delivery reports, and the barrier before offsets are committed."""

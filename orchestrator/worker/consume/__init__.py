"""From Kafka to the engine: polling, assigned partitions, where reading starts, deduplication's memory."""

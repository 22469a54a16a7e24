"""The Kafka client: consumers, producers, readers. The only place that imports confluent-kafka."""

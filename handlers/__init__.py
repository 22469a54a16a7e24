"""The example: orders, payments and tracking over Kafka (docs/example.md)."""

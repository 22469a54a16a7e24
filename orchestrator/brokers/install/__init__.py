"""Getting Apache Kafka and a Java: found on this machine, or fetched once and verified."""

"""A door that goes out itself: reads Kinesis data streams into the queue. Only `service` speaks AWS."""

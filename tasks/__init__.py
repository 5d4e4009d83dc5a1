"""From the queue to the destination; knows no HTTP in."""

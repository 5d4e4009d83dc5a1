"""The operator's command, event-router."""

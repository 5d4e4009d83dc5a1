"""Values: settings, Celery's settings, logging, metrics, routes and sources."""

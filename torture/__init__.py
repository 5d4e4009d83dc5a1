"""The whole router under fire: its parts killed, its connections cut, its promise checked event by event."""

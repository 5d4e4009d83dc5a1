"""A stand-in Encharge over real HTTP, for the demo, for operators and for system tests."""

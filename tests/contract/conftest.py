"""Property tests here run many Lua scripts an example: fewer examples, and no deadline."""

from hypothesis import settings

settings.register_profile("contract", deadline=None, max_examples=40)
settings.load_profile("contract")

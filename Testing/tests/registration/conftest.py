"""Settings of the tests of registration."""

from hypothesis import settings

# No test of this project fails because the machine is slow.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

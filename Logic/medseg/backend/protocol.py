"""What both ends of the protocol must agree on; the whole of it is in docs/developer/protocol.md."""

PROTOCOL = 1
"""Version of the protocol; a client refuses a worker with another."""

TOKEN_VARIABLE = "MEDSEG_WORKER_TOKEN"  # noqa: S105 - the name of a variable
"""Environment variable that carries the token: other users can read a command line."""

FINAL_STATES = frozenset({"done", "failed", "cancelled"})
"""The states of a job that do not change any more."""

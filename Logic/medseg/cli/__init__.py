"""The command line: ``medseg segment | models | info | train | demo | bench``.

Importing it costs typer and rich only; each command imports what it needs when it runs.
"""

from medseg.cli.application import app, main

__all__ = ["app", "main"]

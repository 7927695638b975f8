"""The backend: one job protocol, the worker process that serves it, and the client that panels and batches use.

Importing this package costs the standard library and numpy; torch lives in the computing process only.
"""

from medseg.backend.client import WorkerClient
from medseg.backend.interpreter import InterpreterReport, PythonInterpreter, check_interpreter, find_interpreter
from medseg.backend.job import Job

__all__ = [
    "InterpreterReport",
    "Job",
    "PythonInterpreter",
    "WorkerClient",
    "check_interpreter",
    "find_interpreter",
]

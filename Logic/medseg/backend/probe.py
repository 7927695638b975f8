"""What a Python has, written on standard output as one line of JSON.

Run by ``check_interpreter`` in a Python that may be of any version, so this file keeps to what Python 2.7 reads too,
and imports nothing of MedSeg.
"""

# ruff: noqa: UP031, PTH100, PTH120
# mypy: ignore-errors

import json
import os
import sys


def version_of(name):
    """Import a package and return its version as text."""
    module = __import__(name)
    if name == "SimpleITK":
        return str(module.Version_VersionString())
    return str(getattr(module, "__version__", "?"))


def cuda_of(torch):
    """Return what torch says about CUDA, as a dictionary."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {"cuda": count > 0, "cuda_devices": [torch.cuda.get_device_name(i) for i in range(count)]}


def one_package(name, found):
    """Add the version of one package, or what is wrong with it, to ``found``."""
    try:
        found["packages"][name] = version_of(name)
    except BaseException as error:  # noqa: BLE001 - a broken library may raise anything, also SystemExit
        absent = isinstance(error, ImportError) and getattr(error, "name", None) == name
        found["errors"][name] = "missing" if absent else "%s: %s" % (type(error).__name__, error)


def main():
    """Probe the packages named on the command line."""
    found = {
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "packages": {},
        "errors": {},
        "cuda": False,
        "cuda_devices": [],
    }
    for name in sys.argv[1:]:
        one_package(name, found)
    if "torch" in found["packages"]:
        try:
            found.update(cuda_of(sys.modules["torch"]))
        except Exception as error:  # noqa: BLE001 - reported as a fact about this Python
            found["errors"]["cuda"] = "%s: %s" % (type(error).__name__, error)
    sys.stdout.write("\nMEDSEG-PROBE " + json.dumps(found) + "\n")


if __name__ == "__main__":
    # Python put the folder of this file first; its other files must not hide packages of the same name.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    main()

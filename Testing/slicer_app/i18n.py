"""The module ``slicer.i18n``. The stand-in runs in English: texts come back as they are, after the same checks."""

from __future__ import annotations

import inspect as _inspect
from pathlib import Path as _Path

_contexts: dict[str, str] = {}


def getContext(sourceFile: str) -> str:
    """The context of a source file: its name, after that of its package where it is in one."""
    if sourceFile not in _contexts:
        path = _Path(sourceFile)
        in_package = path.is_file() and (path.parent / "__init__.py").is_file()
        name = path.name.replace(".py", "") if path.is_file() else path.name
        _contexts[sourceFile] = f"{path.parent.name}.{name}" if in_package else name
    return _contexts[sourceFile]


def translate(context: str, text: str) -> str:
    from slicer import app

    return app.translate(context, text)


def tr(text: str) -> str:
    frame = _inspect.currentframe()
    caller = frame.f_back if frame is not None else None
    file = (_inspect.getsourcefile(caller) or _inspect.getfile(caller)) if caller is not None else ""
    return translate(getContext(file), text)

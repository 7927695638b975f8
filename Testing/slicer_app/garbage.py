"""Python's cyclic garbage is collected on the main thread only, while a module is loaded.

The collector runs in whatever thread happens to allocate. In Slicer the main thread keeps Python's global lock while
its event loop runs, so a thread that collects Qt objects does not run beside the loop; PySide gives the lock away
there, and a collection in a thread of the module under test would destroy Qt objects that the loop is using (seen: it
crashes).
"""

from __future__ import annotations

import gc

from PySide6.QtCore import QTimer

_INTERVAL_MS = 100


class MainThreadCollector:
    """Collects in place of the automatic collector, by its thresholds, whenever events are handled."""

    def __init__(self) -> None:
        self._timer = QTimer()
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.timeout.connect(self._collect_what_is_due)

    def start(self) -> None:
        gc.disable()
        self._timer.start()

    def stop(self) -> None:
        self._timer.stop()
        gc.collect()
        gc.enable()

    def _collect_what_is_due(self) -> None:
        counts, thresholds = gc.get_count(), gc.get_threshold()
        for generation in (2, 1, 0):
            if thresholds[generation] and counts[generation] > thresholds[generation]:
                gc.collect(generation)
                return

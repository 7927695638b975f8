"""A volume that several jobs take is packed and hashed once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from medseg.backend.encoding import encode_volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.backend.encoding import Parcel
    from medseg.volumes import Volume


class PreparedVolume:
    """A volume on its way to the worker; the second job that takes it sends nothing and hashes nothing. Thread-safe.

    Parameters
    ----------
    source
        The volume, not to be changed any more, or a function that gives it and is called once, in whatever thread needs
        it first.
    """

    def __init__(self, source: Volume | Callable[[], Volume]) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._packed: tuple[Volume, Parcel, str] | None = None

    def packed(self) -> tuple[Volume, Parcel, str]:
        """Return the volume, its parcel and the parcel's address; takes a while at the first call."""
        with self._lock:
            if self._packed is None:
                volume = self._source() if callable(self._source) else self._source
                parcel = encode_volume(volume)
                self._packed = volume, parcel, parcel.sha256()
            return self._packed

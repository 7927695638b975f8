"""The version of MedSeg, in one place: read by packaging, written into every result."""

VERSION = "0.1.0"

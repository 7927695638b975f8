"""Label tables: names, colours and codes of the structures in a labelmap."""

from medseg.labels.codes import Code, TerminologyEntry, parse_terminology_entry
from medseg.labels.known import named_label
from medseg.labels.table import Label, LabelTable, read_labels, write_labels
from medseg.labels.terminology import write_terminology

__all__ = [
    "Code",
    "Label",
    "LabelTable",
    "TerminologyEntry",
    "named_label",
    "parse_terminology_entry",
    "read_labels",
    "write_labels",
    "write_terminology",
]

"""Correcting by clicks against classical tools, side by side: ``medseg bench interaction``.

``cases`` says which structures of which scans, none of which the network was trained on, and ``starts`` what a bad
automatic mask of them is; ``methods`` which ways there are to follow clicks, the ``rivals`` among them. ``users``
clicks and takes the time, ``records`` keeps what came out, ``runner`` puts these together, ``summary`` and ``report``
make the tables and the verdict.
"""

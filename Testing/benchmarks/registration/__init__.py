"""Registration against ANTs SyN, elastix and Demons, side by side: ``medseg bench registration``.

``cases`` says which pairs, ``groups`` which tables they make, ``methods`` which ways there are to register them. Each
runs in a process of its own (``process``, ``child``) and hands back nothing but a transform, which ``measure`` judges
by one and the same code. ``runner`` puts these together, ``report`` makes the tables and the verdicts.
"""

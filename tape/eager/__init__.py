"""Eager variables: arrays that remember how they were computed, and `backward`.

`variables.py` is what users hold, `shared_memory.py` keeps views of one array together, `replay.py` makes a list of a
computation when its gradient is asked for, and keeps it for the next one of the same form. Imports `running` and below.
"""

"""What is told about a list: its size and guards, where derivatives are undefined, where a NaN arose.

`inspection.py` walks a list slowly by the table's rules, `report.py` is what a user sees, `strictness.py` makes errors and
warnings of it. It looks and changes nothing. Imports `recording` and below.
"""

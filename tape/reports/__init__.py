"""What is told about a list: its size and guards, where derivatives are undefined, where a NaN arose.

`inspection.py` walks a list slowly by the table's rules, `report.py` is what a user sees, `strictness.py` makes errors and
warnings of it; `timing.py` measures lines of source, `profile.py` tells what they cost. `tables.py` writes text and HTML,
`canvas.py` pictures. It looks and changes nothing. Imports `transforms` and below.
"""

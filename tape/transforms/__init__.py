"""From list to list: derivatives symbol to symbol, and passes that make a list shorter.

`build.py` is the way in for derivatives, `differentiate.py` and `loop_derivatives.py` write them by the table's own rules;
`simplify.py`, `known_forms.py`, `stacked_products.py` and `roll.py` are the passes. Imports `recording`, as derivatives are
recorded like anything else.
"""

import tape.transforms.loop_derivatives  # noqa: F401  fills in the rules of the instruction that has a body

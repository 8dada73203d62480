"""The verbs: gradients, Jacobians and Hessians, products with them, and their check by differences.

Each verb says what it takes and gives, and asks `running.linearised` for the numbers; inside a function that is being recorded
it records itself (`nested.py`). `sparsity.py` finds out what of a matrix can be other than zero. Imports `running` and below.
"""

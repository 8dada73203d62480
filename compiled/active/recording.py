"""Placeholder."""
def push_instruction(emission, row, operands, inner, value):
    raise NotImplementedError

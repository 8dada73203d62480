"""The compiled floor: what Numba and LLVM compile.

It holds the instruction set, the memory of a Wengert list and the sweeps that run it. It knows arrays, not users, and
never imports `tape`.
"""

"""The compiled floor: what Numba and LLVM compile. It knows arrays, not users, and never imports `tape`.

From the bottom up: `functions` (elementary functions as code), `table` (the instruction set), then side by side `lists` (lists
in memory and in files), `sweeps` (kernels that walk a list) and `active` (numbers that carry derivatives through jitted code),
and on top of them `native` (a list as machine code). Beside the wings stand what all of them use: errors, the cache of
kernels, locks that survive a fork, and the loading of Numba.
"""

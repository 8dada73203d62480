"""A list turned into machine code: scheduled into loops, emitted as LLVM IR, compiled, called.

`schedule.py` says what runs together, `emit.py` and `loops.py` write it, `placement.py` says where it lies, `wrappers.py`
writes the ways in; `function.py` is the whole from Python, `lanes.py` and `threads.py` the same for many samples at once,
`export.py` for C. `machine.py` compiles, and keeps object code. The top of the compiled floor: it may import every other wing
of it.
"""

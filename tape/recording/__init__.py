"""A call of a user's function becomes a list: arrays that write it, what it read, and when it may be run again.

`arrays.py` are the recorded arrays, `recorder.py` writes, `dispatch.py` holds the tables of rules, which fill themselves when
their modules are loaded; `recordings.py` records a call, `trace.py` is what comes of it, `traces.py` finds the one for a call,
`freshness.py` and `snapshots.py` say whether it still holds, `ownership.py` whose code is whose. Imports the compiled floor and
`tape.errors` only.
"""

"""The one door in: facts and chunks in, durable and routed instances out.

`door` is what the fronts see of it, `visit` the door itself, `sweep` the start, `verify` the proof.
"""

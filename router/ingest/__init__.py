"""The one door in: facts and chunks in, durable and routed instances out. `visit` is the door, `sweep` the start,
`verify` the proof.
"""

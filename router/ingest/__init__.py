"""The one door in: facts and chunks in, durable and routed instances out. CONTRACT: see visit.py."""

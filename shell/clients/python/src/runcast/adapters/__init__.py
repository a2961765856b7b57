"""Agents of other frameworks as agents of Runcast: one module each, imported only by whoever uses it."""

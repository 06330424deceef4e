"""Backends: a trained model behind one interface, whatever runs it."""

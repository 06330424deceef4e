"""Endpoints: each declared once, with its query, bodies, answers and errors."""

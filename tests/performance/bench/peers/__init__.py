"""The other servers. Each file runs in its own virtual environment, with its requirements beside it."""

"""The HTTP service: loads the exported encoder and decoder and answers for them. Never imports torch."""

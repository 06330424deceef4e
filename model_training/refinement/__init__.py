"""Refinement of latents: the decoder's derivatives, the solver that uses them, what it is fitted by."""

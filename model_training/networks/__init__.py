"""Networks of the VAE in both architectures, and their loss."""

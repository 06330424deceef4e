"""The networks of the VAE and their loss."""

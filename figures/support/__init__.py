"""Code that figures share: one look, and computations behind several pictures."""

"""Measurements of `refbnn bench`; start with `comparison` (networks), `operators` (layers)."""

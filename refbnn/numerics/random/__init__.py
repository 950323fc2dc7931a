"""Random numbers: independent streams of a seed, and the counter-based generator Philox."""

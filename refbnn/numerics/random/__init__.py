"""Random numbers: independent generators from one seed, and the counter-based generator Philox."""

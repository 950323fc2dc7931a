"""`refbnn bench`: latencies, instructions and limits."""

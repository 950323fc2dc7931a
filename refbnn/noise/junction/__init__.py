"""A simulated magnetic tunnel junction, the device behind the packaged measurements.

Start with `junction` for its physics; `simulate` makes the reads.
"""

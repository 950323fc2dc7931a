"""A simulated magnetic tunnel junction: the device behind the packaged measurements."""

"""`refbnn reproduce`: the whole chain, a stage after the other."""

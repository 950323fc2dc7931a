"""The stages of `refbnn reproduce`, one file each: do the work, then say how it went."""

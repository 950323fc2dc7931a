"""Networks: layers in a row with the posterior of every weight, and their files."""

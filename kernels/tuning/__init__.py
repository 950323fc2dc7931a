"""Search for the fastest schedules; start with `tune`.

search        which decisions are measured next
building      candidates compiled, in processes of their own
measuring     cost of a candidate
choice        which of the measured candidates is kept
interruption  signals and output during a search
journal       measurements of an unfinished search, in a file
"""

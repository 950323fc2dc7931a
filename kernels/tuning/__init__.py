"""Parts of a search (`kernels.tuning.tune`), one idea a file.

search        which decisions are measured next
building      candidates compiled, in processes of their own
measuring     what a candidate costs
interruption  what a signal does meanwhile
journal       what is measured of an unfinished search, kept
"""

"""Reading and writing files: atomic writes, and readers that never execute what they read.

Start with `atomic` for writing; `archive`, `npy` and `torch_file` read files made by others.
"""

"""Pictures that commands draw with --plot: one file a picture, and how they are saved.

A command imports its picture inside `run`, before long work: Matplotlib belongs to the extra
`figures`, and its absence is then named at once.
"""

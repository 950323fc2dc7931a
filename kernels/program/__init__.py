"""Programs: how operators are put together, compiled, recorded and called.

Start with `program`, which operators add themselves to, and `kernel`, which compiles programs;
`compiled` is the network that users call. `locks` lets one thread at a time call a kernel.
"""

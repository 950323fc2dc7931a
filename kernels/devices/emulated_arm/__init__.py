"""An emulated 64-bit Arm core that counts the instructions it executes; start with `emulated`."""

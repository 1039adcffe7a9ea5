"""Command-line interface: each command calls the library and prints the result.

Exit codes: 0 on success; 1 for an internal error; 2 for an invalid argument, file or model; 130 after Ctrl-C.
"""

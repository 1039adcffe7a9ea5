"""The ``musgenre`` command. Each command is thin: it calls the library and prints what comes back.

Exit codes: 0 when everything worked; 2 when an argument, a file or a model cannot be used.
"""

"""Where user code runs: child processes, or this process.

``process`` and ``thread`` are the two crews that a runner can have; ``launch`` starts children (``forkserver`` is one
of the ways), ``link`` is the parent's end of one child, ``inquiry`` asks it where it is.
"""

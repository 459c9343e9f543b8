"""The order workflow that ``podium demo`` runs: an application of podium, written as a user would write one.

``workers`` declares the four workers, ``orders`` the definitions and the inputs. ``run`` puts it together: server,
registration, workers, workflows (``drive``), numbers (``tally``), output (``screen``).
"""

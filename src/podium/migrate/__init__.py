"""From conductor-python to podium: the table of names, and a rewriter of import statements.

``table`` is the list, ``rewrite`` changes the text of one file, ``tree`` finds and writes files.
"""

"""Exit codes of every `coe` command, by their sysexits names.

Where on the path: the command line only. Scripts branch on these, so a number never changes its meaning.
"""

from __future__ import annotations

EX_USAGE = 64
"""The command was used wrongly: an unknown flag, a value that makes no sense, nothing or too much that fits."""
EX_DATAERR = 65
"""What was recorded does not hold: a decision that comes out differently, a record that can't be read."""
EX_UNAVAILABLE = 69
"""Something that is needed does not answer."""
EX_CANTCREAT = 73
"""A file or directory can't be written."""
EX_TEMPFAIL = 75
"""Not now: somebody else holds what is needed. The same command may work in a moment."""
EX_CONFIG = 78
"""The configuration, or a file the router keeps, is wrong: the message says what to mend."""

"""Where money is written down.

The journal is the truth; everything else here writes it, mends it, or is built from it.

    journal    the asynchronous face of the writer; what the pipeline calls
    writer     the append-only segments of one process: the truth
    syncing    when written bytes are forced to disk
    spill      room kept for the end of running attempts when the disk is full
    recovery   the sweep at start: every attempt of a dead writer gets its one terminal row
    lines      one line: JSON, version, checksum
    segments   file names, locks and reading
    rows       ledger entries as line bodies, with their limits
    indexer    journal -> sinks, restartable
    pruning    old segments taken out, with a record
    sinks      indexes that can be rebuilt from the journal
    reports    what it cost, and what it saved; render draws the rows
    decisions  one decision with its attempts

Entries are built by `recorder` from what the pipeline knows.
"""

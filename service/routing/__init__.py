"""Which expert answers, and why. Pure: the same features and versions give the same decision, bit for bit.

The map, in the order of `decide`:

    addressing.py   `model` of the request -> which deployments are meant
    rules.py        which policy, route and limits apply
    capable.py      hard filters: what can't serve, each with its reason
    shortlist.py    who can serve requests of a kind, worked out once; prepared.py keeps that, and more, per registry
    quality.py      how likely a model's answer is acceptable
    lengths.py      how long answers are: priors, and the learned table; learning.py makes it
    prefixes.py     what of a prompt a vendor still holds in its cache
    estimate.py     expected output and cost of a deployment for a request
    quotes.py       what all of them cost, until a price changes
    columns.py      qualities and costs of many at once; proven equal to the functions for one
    entrants.py     all of these over the whole registry: who is able, at which figures
    policies/       how candidates are ranked; `POLICIES` lists them
    weighing.py     all of the above, in order: who is able, and who comes before whom
    router.py       `decide`: that as a decision
    what_if.py      what would have to change for another one to win
    explain.py      a decision as plain data: for the journal and for whoever asks
    screen.py       the same in a screenful of text
    replay.py       a recorded decision, taken again
"""

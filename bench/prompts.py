"""Prompts for the benches: natural English of any size, each of which comes only once.

Half of the wishes are everyday ones, half are what a classifier sends to a dearer model. None is from the corpus that
the classifier was fitted on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

MARK = "@@"
"""Where the number of the request stands: whoever sends a prompt replaces it, so that no two are equal."""

WISHES = (
    "Could you sum up what we agreed on and who has to do what until Friday?",
    "Please write a short, friendly mail to the tenant about the water that will be off on Tuesday morning.",
    "Translate the part about the delivery into French, please, and keep the tone polite.",
    "What is the difference between the two offers, and which one is cheaper over three years?",
    "Make a list of everything that was bought, with the amounts, one line each.",
    "Explain how a heat pump works, so that a curious ten-year-old gets it.",
    "Find three names for the bakery that are easy to say in English and Spanish.",
    "Is there anything in these notes that contradicts the plan from last month?",
    "Write a Python function that reads these rows, groups them by week and returns the totals as a dict.",
    "Why could the second query be slow although both columns have an index? Show me how you would rewrite it.",
    "Prove that the sum of the first n odd numbers is n squared, then say where induction was needed.",
    "Which clauses of this contract would a court probably not uphold, and why?",
    "Work out how much tax is due if the flat is sold after seven years, step by step.",
    "Draft an architecture for a queue that must not lose an order when one data centre goes dark.",
    "Analyse the causes of the delay and weigh the three ways out against each other.",
    "Review this change: what breaks when two requests arrive at the same moment?",
)

NOTES = (
    "Anna called from the warehouse and said that the pallets with the blue lids are still missing.",
    "The meeting began at nine, half an hour late, because the projector did not want to start.",
    "Raj thinks that we should wait for the second quarter before anybody is hired.",
    "There were forty-two boxes on the first lorry and thirty-nine on the second one.",
    "Nobody had written down the date, so we took the one from the calendar of the office.",
    "The supplier offers two per cent off when the invoice is paid within ten days.",
    "In the old building the heating is turned off from May to September.",
    "A customer in Lisbon asked whether the parts can be had in green as well.",
    "The test ran for six hours and failed twice, both times shortly after midnight.",
    "Most of the cost comes from the transport, not from the material itself.",
    "Her brother keeps bees, and in a good year there are ninety jars of honey.",
    "We talked about the budget for a while, without a result.",
    "The new scanner reads labels from three metres away, even when they are wet.",
    "On the last page there is a table with prices per kilo for each month of the year.",
    "It rained all week, which is why the roof could not be finished as planned.",
    "The bank wants a copy of the register and two signatures, both in blue ink.",
    "Somebody moved the backup to the other disk and forgot to tell the night shift.",
    "A single ticket costs three euros and the weekly one nineteen.",
    "The landlord agreed to paint the stairs, but not before the summer.",
    "They measured the temperature at four places and wrote it on the back of the plan.",
    "Two of the five machines are older than ten years and need oil every week.",
    "The report mentions a risk for the supply of copper and none for that of steel.",
    "Her train leaves at 17:42 from platform six, provided that it is on time for once.",
    "In the survey, sixty-one of eighty people said that they would buy it again.",
)


def prompts(count: int, size_bytes: int, seed: int = 7) -> Iterator[str]:
    """`count` texts of about `size_bytes` bytes, each with `MARK` in it once. The same seed gives the same texts."""
    draw = random.Random(seed)
    for number in range(count):
        text = f"{WISHES[number % len(WISHES)]} Ticket {MARK}."
        room = size_bytes - len(text)
        pieces: list[str] = []
        while room > 0:
            piece = " " + draw.choice(NOTES)
            pieces.append(piece[:room])
            room -= len(piece)
        yield text + "".join(pieces)

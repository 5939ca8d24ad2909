"""A small world with a planted structure: three subjects, three models, one word that makes a request hard.

`cook` is cheap and good at cooking, `bike` cheap and good at bicycles, `big` dear and good at everything; nobody is told
the subject. A request with the word "knotty" in place of "simple" is too much for the cheap ones. On bicycles `big` talks at length
and costs four times as much.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from classifiers.quality import evaluate, outcomes, reading

SUBJECTS = {
    "cooking": [
        "onion",
        "garlic",
        "butter",
        "simmer",
        "roast",
        "oven",
        "dough",
        "flour",
        "pepper",
        "sauce",
        "kettle",
        "recipe",
        "stir",
        "boil",
        "salt",
    ],
    "bicycles": [
        "wheel",
        "chain",
        "pedal",
        "brake",
        "saddle",
        "spoke",
        "tyre",
        "gear",
        "frame",
        "handlebar",
        "pump",
        "rim",
        "cable",
        "valve",
        "hub",
    ],
    "taxes": [
        "income",
        "deduct",
        "invoice",
        "ledger",
        "refund",
        "levy",
        "audit",
        "taxable",
        "receipt",
        "filing",
        "payroll",
        "estate",
        "rebate",
        "duty",
    ],
}
GOOD_AT = {"cook": "cooking", "bike": "bicycles"}
DEAR = 4.0
COSTS = {"cook": 0.001, "bike": 0.0012, "big": 0.02}
FILLER = [
    "please",
    "tell",
    "me",
    "about",
    "the",
    "thing",
    "with",
    "and",
    "of",
    "a",
    "for",
    "my",
    "old",
    "new",
    "big",
    "small",
    "today",
]


def planted(count=400, seed=0, *, learnable=True, hard=True):
    """Rows as a file would hold them."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        subject = sorted(SUBJECTS)[number % 3]
        words = [*rng.choice(SUBJECTS[subject], 6).tolist(), *rng.choice(FILLER, 6).tolist()]
        knotty = hard and rng.random() < 0.35
        words.append("knotty" if knotty else "simple")
        chances = {}
        for model in COSTS:
            right = GOOD_AT.get(model, subject) == subject
            chance = 0.92 if model == "big" else 0.95 if right and not knotty else 0.25
            chances[model] = chance if learnable else {"big": 0.8, "cook": 0.6, "bike": 0.55}[model]
        rows.append(
            {
                "id": f"row/{seed}/{number}",
                "source": "planted",
                "category": subject,
                "language": "en",
                "prompt": " ".join(rng.permutation(words).tolist()) + f" number {number}",
                "outcomes": {
                    model: {
                        "score": float(rng.random() < chance),
                        "input_tokens": None,
                        "output_tokens": None,
                        "cost_usd": COSTS[model] * (DEAR if (model, subject) == ("big", "bicycles") else 1.0),
                    }
                    for model, chance in chances.items()
                },
            }
        )
    return rows


def write(path, rows):
    """A rows file."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def world():
    """The functions above, for tests."""
    return SimpleNamespace(planted=planted, write=write, costs=COSTS, good_at=GOOD_AT)


@pytest.fixture(scope="session")
def learned(tmp_path_factory):
    """TRAIN and TEST of the planted world, a router fitted on TRAIN, and what it says about TEST."""
    directory = tmp_path_factory.mktemp("planted")
    train = outcomes.read_outcomes(write(directory / "train.jsonl", planted(420, seed=1)))
    test = outcomes.read_outcomes(write(directory / "test.jsonl", planted(300, seed=2)))
    stage = evaluate.stage_of(evaluate.prepare(train, test, None))
    read, asked = reading.read_prompts(stage.train.prompts), reading.read_prompts(stage.test.prompts)
    router = evaluate.fit_router(stage, read)
    predicted = router.predict(asked, stage.test.prompts)
    return SimpleNamespace(
        directory=directory,
        stage=stage,
        read=read,
        asked=asked,
        router=router,
        predicted=predicted,
        report=evaluate.report_of(stage, predicted, router.setting),
    )

"""One answer's length as it is handed on."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from service.domain.lengths import AnswerLength


def test_one_whole_choice_is_the_usual_case():
    """And nobody changes it on its way."""
    answer = AnswerLength("m", "coding", "default", 10, None, 5)
    assert (answer.choices, answer.cut) == (1, False)
    with pytest.raises(FrozenInstanceError):
        answer.visible_tokens = 11

"""Personal data is told by its form, and ordinary numbers are not personal data."""

import pytest

from classifiers.personal import has_personal_data


def _has(text):
    return has_personal_data(text, sum(char.isdigit() for char in text))


@pytest.mark.parametrize(
    "text",
    [
        "write to anna.kovac@example.org please",
        "我的电话是13812345678，请回电",
        "call me at +44 20 7946 0958 after six",
        "my number is (555) 010-9999",
        "座机 010-62345678",
        "SSN 078-05-1120 on the form",
        "身份证 11010519491231002X 核对一下",
        "card 4111 1111 1111 1111 exp 04/29",
        "IBAN GB82 WEST 1234 5698 7654 32",
    ],
)
def test_personal_data_is_seen(text):
    """Mail, phones of several countries, identity, card and bank numbers."""
    assert _has(text)


@pytest.mark.parametrize(
    "text",
    [
        "the population was 1,402,112,000 in 2020",
        "order 4111111111111112 is late",
        "身份证 110105194912310021 核对一下",
        "IBAN GB83 WEST 1234 5698 7654 32",
        "3.14159265358979 is pi",
        "commit 8f14e45fceea167a5a36dedd4bea2543",
        "@property decorators in Python",
        "solve 123456789 x 987654321",
        "between 2019-01-01 and 2021-12-31",
        "hello",
        "",
    ],
)
def test_other_numbers_are_not(text):
    """Populations, order numbers, wrong check digits, dates, hashes."""
    assert not _has(text)


def test_few_digits_are_not_searched():
    """The count is believed: it comes from the features and saves the search."""
    assert not has_personal_data("13812345678", digits=0)

"""Timing measures what it says it measures; it asserts no speed."""

from classifiers import IntentClassifier
from classifiers.timing import measure


def test_every_size_is_measured_in_both_languages():
    """Sizes up to ten million characters; percentiles in order and positive."""
    timings = measure(IntentClassifier.load(), rounds=5)
    assert [(t.language, t.characters) for t in timings] == [
        (lang, n) for lang in ("en", "zh") for n in (20, 200, 2_000, 10_000_000)
    ]
    assert all(0 < t.p50_us <= t.p99_us for t in timings)
    assert all(0 < t.cpu_p50_us <= t.cpu_p99_us for t in timings)
    assert all(t.cpu_p50_us <= t.p50_us for t in timings)


def test_time_is_bounded_by_the_selection():
    """A prompt five thousand times as long costs no multiple: reading all of it would."""
    timings = {(t.language, t.characters): t.cpu_p50_us for t in measure(IntentClassifier.load(), rounds=25)}
    for language in ("en", "zh"):
        assert timings[language, 10_000_000] < 20 * timings[language, 2_000]

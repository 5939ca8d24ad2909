"""Language of the instruction, on texts that are easy to get wrong."""

import pytest

from classifiers.features import extract


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("hello there", "en"),
        ("What is a résumé?", "en"),
        ("pandas merge dataframe", "en"),
        ("你好呀", "zh"),
        ("用Python写一个快速排序", "zh"),
        ("Python pandas dataframe 怎么去重", "zh"),
        ("这段代码为什么报错？\n```python\nfor i in range(10):\n    print(i)\n```", "zh"),
        ("Translate into English: 今天天气很好，我们去公园散步吧", "en"),
        ("把这句话翻译成英文：The meeting has been moved to Thursday afternoon.", "zh"),
        ("繁體中文也是中文", "zh"),
        ("こんにちは、元気ですか", "other"),
        ("東京の天気を教えてください", "other"),
        ("오늘 날씨 어때?", "other"),
        ("Привет, как дела?", "other"),
        ("ما هو الطقس اليوم", "other"),
        ("Comment faire une tarte aux pommes ?", "other"),
        ("¿Cuál es la capital de Francia?", "other"),
        ("Wie ist das Wetter heute in Berlin?", "other"),
        ("Qual é a capital do Brasil?", "other"),
        ("", "und"),
        ("???", "und"),
        ("12 * 47 + 9 =", "und"),
        ("😀😀", "und"),
    ],
)
def test_language(text, language):
    """English, Chinese, another one, or undetermined."""
    assert extract(text).language == language

"""The page of messages says what the code says."""

import re
from pathlib import Path

import pytest
from error_messages import texts_in_code

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
OURS = PAGE.read_text(encoding="utf-8").partition("## Messages of others")[0]
MESSAGES = re.findall(r"^\| `(.+?)` \|", OURS, re.MULTILINE)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list(texts_in_code())


def test_the_page_has_messages():
    assert len(MESSAGES) > 50 and len(set(MESSAGES)) == len(MESSAGES)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_one_that_the_code_gives(message, texts):
    assert any(message in text for text in texts)

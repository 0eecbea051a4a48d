"""What must not be recorded."""

import pytest

from xray_lazy.tracking.redaction import argument_without_secrets, settings_without_secrets, without_secrets

ENVIRONMENT = {
    "WANDB_API_KEY": "0123456789" * 4,
    "DB_PASSWORD": "correct horse",
    "PWD": "/home/me",
    "KEYBOARD": "german_de",
}


@pytest.mark.parametrize(
    ("text", "recorded"),
    [
        ("https://me:s3cret@host/w.pth", "https://***@host/w.pth"),
        ("https://ghp_0123456789abcdefghij@github.com/me/code", "https://***@github.com/me/code"),
        ("https://ghp_0123456789abcdefghij:x-oauth-basic@github.com/me/code", "https://***@github.com/me/code"),
        ("https://host/w.pth?token=abc123def456&size=1", "https://host/w.pth?token=***&size=1"),
        ('{"api_key": "abcdefghijk"}', '{"api_key": "***"}'),
        ("HUB_TOKEN='abcdefghijk'", "HUB_TOKEN='***'"),
        ("use hf_abcdefghijklmnopqrst here", "use *** here"),
        (f"login {'0123456789' * 4}", "login ***"),
        ("the correct horse", "the ***"),
    ],
)
def test_secrets_are_replaced(text, recorded):
    assert without_secrets(text, ENVIRONMENT) == recorded


@pytest.mark.parametrize(
    "text",
    [
        "git@github.com:me/code.git",
        "ssh://git@github.com/me/code.git",
        "detectron2://ImageNetPretrained/MSRA/R-50.pkl",
        "optimizer.lr=0.001",
        "num_tokens=1000000000",
        "self.token = tokenizer(text)",
        "call(token=tokens_of_sentence)",
        "94cf5fad083123ddfb5eb4592544d349836a018a",
        "/home/me/code with a german_de keyboard",
    ],
)
def test_what_is_none_stays(text):
    assert without_secrets(text, ENVIRONMENT) == text


def test_an_argument_with_a_secret_key_keeps_the_key_only():
    assert argument_without_secrets("store.password=hunter") == "store.password=***"
    assert argument_without_secrets("--store-token=hunter") == "--store-token=***"
    assert argument_without_secrets("model.tokens=hunter") == "model.tokens=hunter"


def test_settings_are_searched_to_the_ground():
    settings = {"hooks": [{"upload": {"api_key": "hunter", "url": "https://me:pw@host"}}], "lr": 0.1, "token": None}
    clean = {"hooks": [{"upload": {"api_key": "***", "url": "https://***@host"}}], "lr": 0.1, "token": None}
    assert settings_without_secrets(settings) == clean

"""A secret shows itself nowhere, whichever way it is quoted."""

import base64
import copy
import dataclasses
import html
import json
import pickle
import traceback
import urllib.parse

import pytest

from tritonbulk.errors import OutageError, StartError
from tritonbulk.redaction import HIDDEN, Secret, hide, hide_in_uri, redact
from tritonbulk.text import SAID_CHARACTERS_MAX, printable, said

VALUE = 'c4nary "quoted" \\ <b>&\'é\t/?=%'
FORMS = {
    "plain": str,
    "repr": repr,
    "repr of bytes": lambda value: repr(value.encode()),
    "ascii": ascii,
    "json": json.dumps,
    "json, unescaped": lambda value: json.dumps(value, ensure_ascii=False),
    "json of a repr": lambda value: json.dumps(repr(value)),
    "html": html.escape,
    "url": urllib.parse.quote,
    "url, all of it": lambda value: urllib.parse.quote(value, safe=""),
    "form": urllib.parse.quote_plus,
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_redacted_however_it_is_quoted(form):
    Secret(VALUE)
    quoted = FORMS[form](VALUE)
    text = redact(f"before {quoted} after")
    assert HIDDEN in text
    assert quoted.strip("'\"=b") not in text
    assert "c4nary" not in text
    assert base64.b64encode(VALUE.encode()).decode()[:12] not in text


def test_a_secret_is_not_shown_copied_into_view_or_pickled():
    secret = Secret("canary-one")

    held = dataclasses.make_dataclass("Holder", ["held"])(secret)
    for shown in (
        f"{secret}",
        f"{secret!r:>20}",
        repr([secret]),
        repr(held),
        str(dataclasses.asdict(held)),
        json.dumps([secret], default=str),
    ):
        assert "canary-one" not in shown
    with pytest.raises(TypeError, match="Secret"):
        json.dumps(secret)
    for write in (pickle.dumps, lambda it: pickle.dumps([it])):
        with pytest.raises(TypeError, match="Secret"):
            write(secret)
    assert copy.deepcopy(secret).reveal() == "canary-one"
    assert secret == Secret("canary-one")
    assert secret != Secret("canary-two")
    assert not hasattr(secret, "__dict__")


def test_errors_quote_no_secret_even_in_their_tracebacks():
    Secret("canary-in-errors")
    for error in (OutageError("said canary-in-errors"), StartError("canary-in-errors", ())):
        shown = "".join(traceback.format_exception(error)) + repr(error) + str(error.args)
        assert "canary-in-errors" not in shown
        assert HIDDEN in shown


def test_what_is_secret_in_a_uri_is_hidden_and_the_rest_is_not():
    hide_in_uri("s3://user-name:pass-word@bucket/x?region=eu-west-1&X-Amz-Signature=abcdef0123")
    shown = redact("user-name pass-word bucket eu-west-1 abcdef0123")
    assert shown == f"user-name {HIDDEN} bucket eu-west-1 {HIDDEN}"


def test_short_words_are_not_taken_out_of_texts():
    hide("abc")
    assert redact("abc") == "abc"


def test_servers_words_are_escaped_cut_and_without_secrets():
    Secret("canary-of-server")
    words = said("\x1b[31mred\x07\n line\u202e canary-of-server " + "x" * 5000)
    assert words.isprintable()
    assert len(words) == SAID_CHARACTERS_MAX
    assert words.endswith("…")
    assert "canary" not in words
    assert said("fine") == "fine"


def test_a_cut_never_leaves_a_part_of_a_secret():
    Secret("canary-at-the-edge")
    for at in range(SAID_CHARACTERS_MAX - 30, SAID_CHARACTERS_MAX + 5):
        assert "canary" not in said("x" * at + "canary-at-the-edge")


def test_printable_escapes_what_a_terminal_would_obey():
    assert printable("a\x1b[2Jb\r\n\x00") == "a\\x1b[2Jb\\r\\n\\x00"

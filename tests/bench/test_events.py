"""Server-sent events to counts: whatever way the bytes are cut, and whatever the server gets wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratwin.bench.worker.events import ErrorInStream, MalformedStream, StreamedAnswer


def event(text=" a", reason=None, usage=None, chat=False):
    content = b'"delta":{"content":"%b"}' % text.encode() if chat else b'"text":"%b"' % text.encode()
    ending = b"null" if reason is None else b'"%b"' % reason.encode()
    counted = b"" if usage is None else b',"usage":{"prompt_tokens":%d,"completion_tokens":%d}' % usage
    return b'data: {"choices":[{"index":0,' + content + b',"finish_reason":' + ending + b"}]" + counted + b"}\n\n"


FINAL = b'data: {"choices":[],"usage":{"prompt_tokens":64,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'


def answer_of(*parts):
    answer = StreamedAnswer()
    for part in parts:
        answer.feed(part)
    answer.end()
    return answer


def test_counts_events_with_text_where_the_server_does_not_count():
    answer = answer_of(event(), event(), event(reason="length"), DONE)
    assert (answer.tokens, answer.counted_output, answer.finished, answer.done) == (3, -1, True, True)


def test_the_server_counts_better_than_events_do():
    """Tokens that are half a character have no text; several may come in one event."""
    answer = answer_of(event("", usage=(64, 1)), event(usage=(64, 3)), event("", "length", (64, 4)), DONE)
    assert answer.tokens == 4


def test_the_final_count_comes_without_choices():
    answer = answer_of(event(), event(), event(reason="length"), FINAL, DONE)
    assert (answer.counted_prompt, answer.counted_output) == (64, 3)


def test_the_role_of_a_chat_is_no_token():
    answer = answer_of(ROLE, event(chat=True), event("", "stop", chat=True), DONE)
    assert answer.tokens == 1


def test_thoughts_are_tokens():
    thought = b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"hm"},"finish_reason":null}]}\n\n'
    assert answer_of(thought, event("", "stop", chat=True)).tokens == 1


@given(st.lists(st.integers(1, 40), max_size=60))
def test_any_cut_of_the_bytes_counts_the_same(lengths):
    stream = b": ping\n\n" + event() + event(usage=(64, 2)) + event(reason="length", usage=(64, 3)) + FINAL + DONE
    answer, at = StreamedAnswer(), 0
    for length in [*lengths, len(stream)]:
        answer.feed(stream[at : at + length])
        at += length
    answer.end()
    assert (answer.tokens, answer.counted_prompt, answer.done) == (3, 64, True)


def test_other_line_ends_comments_and_fields():
    stream = (event() + b"event: x\nid: 7\nretry: 3\n\n: comment\n\n" + event(reason="stop")).replace(b"\n", b"\r\n")
    assert answer_of(stream, DONE.replace(b"\n", b"\r\n")).tokens == 2


@pytest.mark.parametrize(
    "broken",
    [
        b"data: {not json}\n\n",
        b"data: 7\n\n",
        b"data: [1, 2]\n\n",
        b"<html>\n\n",
        b'data: {"choices":[{}],"usage":{"x":1}}\n\n',
        b'data: {"choices":[{}],"usage":{"completion_tokens":-1}}\n\n',
        b'data: {"choices":[{}],"usage":{"completion_tokens":1000000000000}}\n\n',
        b'data: {"choices":[{}],"usage":{"completion_tokens":"7"}}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":null,"completion_tokens":7}}\n\n',
    ],
)
def test_what_is_no_event_is_named(broken):
    answer = StreamedAnswer()
    answer.feed(event())
    with pytest.raises(MalformedStream):
        answer.feed(broken)


def test_an_error_in_the_stream_is_told():
    with pytest.raises(ErrorInStream, match="engine died"):
        StreamedAnswer().feed(b'data: {"error":{"message":"engine died","code":500}}\n\n')


@pytest.mark.parametrize("stream", [event() + b'data: {"choi', event()])
def test_a_body_that_ends_too_early(stream):
    answer = StreamedAnswer()
    answer.feed(stream)
    with pytest.raises(MalformedStream):
        answer.end()


def test_restart_forgets():
    answer = answer_of(event(usage=(1, 5)), event(reason="stop"), FINAL, DONE)
    answer.restart()
    assert (answer.tokens, answer.counted_prompt, answer.finished, answer.done) == (0, -1, False, False)

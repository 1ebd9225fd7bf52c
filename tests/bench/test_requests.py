"""Requests as bytes: what a server reads is what was meant."""

import json

import pytest

from loratwin.bench.running import assign_adapters
from loratwin.bench.shared.requests import RequestForm, RequestMaker, parse_url
from loratwin.bench.worker.chat_words import CANDIDATES, single_tokens
from loratwin.bench.worker.prompts import GivenTexts, RandomIds, Words, load_texts
from loratwin.errors import DataError, InputError


def parsed(request):
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert int(headers["Content-Length"]) == len(body)
    return lines[0], headers, json.loads(body)


def maker(**options):
    endpoints = [parse_url("http://host:8000/base/v1")]
    return RequestMaker(endpoints, ['odd "name"', "llm"], RandomIds(1, 100), **options)


def test_a_completion_has_exact_lengths_and_its_adapter():
    line, headers, body = parsed(maker().make(0, 0, 5, 17, 9))
    assert line == "POST /base/v1/completions HTTP/1.1" and headers["Host"] == "host:8000"
    assert body["model"] == 'odd "name"' and len(body["prompt"]) == 17 and body["max_tokens"] == 9
    assert body["ignore_eos"] is True and body["stream"] is True
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


def test_no_adapter_is_the_llm_itself():
    assert parsed(maker().make(0, -1, 0, 3, 1))[2]["model"] == "llm"


def test_what_a_server_refuses_is_left_out_and_min_tokens_takes_the_place_of_ignore_eos():
    form = RequestForm(stream_options=False, continuous_usage=False, ignore_eos=False, min_tokens=True)
    body = parsed(maker(form=form).make(0, 0, 5, 17, 9))[2]
    assert set(body) == {"model", "prompt", "min_tokens", "max_tokens", "stream", "temperature"}
    assert body["min_tokens"] == body["max_tokens"] == 9
    assert form.left_out == ("stream_options", "continuous_usage", "ignore_eos")
    bare = RequestForm(ignore_eos=False, temperature=False)
    assert bare.left_out == ("ignore_eos", "temperature", "min_tokens") and RequestForm().left_out == ()


def test_a_chat_has_messages():
    endpoints = [parse_url("http://host:8000")]
    chat = RequestMaker(
        endpoints,
        ["llm"],
        GivenTexts(["hello"]),
        "chat",
        {"Authorization": "Bearer k"},
        RequestForm(continuous_usage=False),
    )
    line, headers, body = parsed(chat.make(0, -1, 0, 5, 2))
    assert line == "POST /v1/chat/completions HTTP/1.1" and headers["Authorization"] == "Bearer k"
    assert body["messages"] == [{"role": "user", "content": "hello"}]
    assert body["stream_options"] == {"include_usage": True}


def test_random_prompts_begin_differently_for_every_row():
    """Equal beginnings would be found in the server's prefix cache."""
    prompts = RandomIds(3, 64)
    first = {tuple(json.loads(prompts.value(row, 16))) for row in range(20_000)}
    assert len(first) == 20_000
    assert all(100 <= token <= 999 for token in next(iter(first)))
    assert RandomIds(3, 64).value(7, 64) == prompts.value(7, 64) != RandomIds(4, 64).value(7, 64)


@pytest.mark.parametrize("prompts", [RandomIds(3, 64), Words(3, CANDIDATES, overhead=0, longest=64)])
def test_prompts_before_the_window_begin_as_none_in_it(prompts):
    first = {prompts.value(row, 16) for row in range(-5_000, 20_000)}
    assert len(first) == 25_000


@pytest.mark.parametrize("length", [1, 2, 63, 64])
def test_random_prompts_are_exactly_as_long_as_asked_for(length):
    prompts = RandomIds(0, 64)
    assert all(len(json.loads(prompts.value(row, length))) == length for row in (0, 1, 262_143, 10**6))


def test_words_keep_to_the_number_less_the_template():
    words = Words(0, (" a", " b"), overhead=10, longest=50)
    assert len(json.loads(words.value(3, 30)).split()) == 20
    assert len(json.loads(words.value(3, 4)).split()) == 1


def test_words_of_one_token_are_found_among_others():
    """A tokenizer that splits a third of the words, behind a template of 7 tokens."""
    split = set(CANDIDATES[1::3])
    words, overhead = single_tokens(lambda text: 7 + sum(2 if f" {word}" in split else 1 for word in text.split()))
    assert overhead == 7
    assert set(words) == set(CANDIDATES) - split


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("http://h:1/v1/", "http://h:1"),
        ("https://api.example.org/x/v1", "https://api.example.org:443/x"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_urls(url, shown):
    assert parse_url(url).url == shown


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://h:port", "http://h?x=1"])
def test_what_is_no_url(url):
    with pytest.raises(InputError, match="http://127"):
        parse_url(url)


def test_a_password_in_the_url_is_refused_without_repeating_it():
    with pytest.raises(InputError) as error:
        parse_url("http://user:secret@host")
    assert "secret" not in str(error.value)


def test_texts_of_files(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    turns = [[{"from": "human", "value": "one"}, {"from": "gpt", "value": "x"}], [{"from": "gpt", "value": "y"}]]
    (tmp_path / "c.json").write_text(json.dumps([{"conversations": turn} for turn in [*turns, []]]))
    assert load_texts(tmp_path / "a.txt") == load_texts(tmp_path / "b.jsonl") == ["one", "two"]
    assert load_texts(tmp_path / "c.json") == ["one"]


def test_files_that_hold_no_prompts(tmp_path):
    (tmp_path / "a.json").write_text('{"x": 1}')
    (tmp_path / "b.txt").write_text("\n")
    with pytest.raises(DataError, match="ShareGPT"):
        load_texts(tmp_path / "a.json")
    with pytest.raises(InputError, match="no prompt in it"):
        GivenTexts(load_texts(tmp_path / "b.txt"))
    with pytest.raises(InputError, match="cannot read"):
        load_texts(tmp_path / "none.txt")


def test_adapters_by_equal_names_else_in_natural_order():
    assert assign_adapters(["b", "a"], ["a", "b", "c"]) == ("b", "a")
    assert assign_adapters(["x", "y", "z"], ["l10", "l9", "l1", "l2"]) == ("l1", "l2", "l9")
    assert assign_adapters(["x", "y"], ["l1", "l2", "l3"], ["l3", "l1"]) == ("l3", "l1")


def test_adapters_that_are_missing():
    with pytest.raises(InputError, match="3 adapters and the server 2.*'z'"):
        assign_adapters(["x", "y", "z"], ["x", "y"])
    with pytest.raises(InputError, match="no 'q'; it has x"):
        assign_adapters(["x"], ["x"], ["q"])
    with pytest.raises(InputError, match="no 'nope'; it has a1, a2, .*, a8 and 16 more"):
        assign_adapters(["x"], [f"a{i}" for i in range(1, 25)], ["nope"])
    with pytest.raises(InputError, match="1 names for the workload's 2"):
        assign_adapters(["x", "y"], ["x", "y"], ["x"])

"""The model client against the mock model, on real sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from agent_runtime_server.core.errors import ModelRejected, ModelUnavailable, ValidationFailed
from agent_runtime_server.llm.base import Channel, Delta, ModelAnswer, ModelRequest, RequestedCall
from agent_runtime_server.llm.messages import Message, Written, write
from agent_runtime_server.llm.openai import OpenAiModel
from agent_runtime_server.mockllm.server import MockServer, mock_server

KEY = "a-secret-key"
ASK = ModelRequest("m", [{"role": "user", "content": "hi"}])
SPEECH = "Grüße aus Köln, 日本語 und 🙂, one two three four five six seven eight nine ten."


@asynccontextmanager
async def model_of(
    *rules: object, first_token: float = 20, idle: float = 20
) -> AsyncIterator[tuple[OpenAiModel, MockServer]]:
    async with mock_server(rules) as server:
        model = OpenAiModel(server.base_url, KEY, first_token_seconds=first_token, idle_seconds=idle)
        try:
            yield model, server
        finally:
            await model.aclose()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the other side tells nobody
            await asyncio.sleep(0)


def fault(kind: str, **fields: object) -> dict[str, object]:
    return {"answer": {"text": SPEECH}, "fault": {"kind": kind, **fields}}


async def test_an_answer_with_text_reasoning_and_several_calls() -> None:
    calls = [{"name": "read_file", "arguments": {"path": "ä.txt"}}, {"name": "broken", "arguments": '{"a": '}]
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    rule = {"answer": {"text": SPEECH, "reasoning": "hm, well", "tool_calls": calls, "usage": usage}}
    told: list[Delta] = []
    async with model_of(rule) as (model, _):
        answer = await model.answer(ASK, told.extend)
    assert (answer.text, answer.reasoning, answer.finish_reason) == (SPEECH, "hm, well", "tool_calls")
    assert answer.calls == (RequestedCall("read_file", '{"path": "ä.txt"}'), RequestedCall("broken", '{"a": '))
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.model_calls) == (7, 3, 1)
    assert "".join(delta.text for delta in told if delta.channel is Channel.TEXT) == SPEECH
    assert {delta.tool_name for delta in told if delta.call_index == 1} == {"broken"}


@pytest.mark.parametrize("pace", [{"chunk_bytes": 1}, {"chunk_bytes": 7}, {"delay_ms": 1, "tokens": 3}])
async def test_a_stream_cut_anywhere_says_the_same(pace: dict[str, object]) -> None:
    async with model_of({"answer": {"text": SPEECH}, "pace": pace}) as (model, _):
        assert (await model.answer(ASK)).text == SPEECH


async def test_tokens_are_told_as_they_come() -> None:
    reads: list[Sequence[Delta]] = []
    async with model_of(fault("hang_mid", after_tokens=3)) as (model, _):
        task = asyncio.get_running_loop().create_task(model.answer(ASK, reads.append))
        await until(lambda: "".join(delta.text for read in reads for delta in read) == "Grüße aus Köln,")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("messages", [ASK.messages, Written([write(ASK.messages)])], ids=["listed", "written"])
async def test_the_request_carries_what_was_asked_for(messages: Sequence[Message]) -> None:
    tools = [{"type": "function", "function": {"name": "t", "parameters": {"type": "object"}}}]
    request = ModelRequest("m", messages, tools, temperature=0.3, max_output_tokens=9)
    async with model_of({"answer": {"text": "ok"}}) as (model, server):
        await model.answer(request)
        entry = server.journal[-1]
    assert entry.authorized
    assert entry.request == {
        "model": "m", "messages": ASK.messages, "tools": tools, "temperature": 0.3, "max_tokens": 9,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


async def test_one_connection_serves_one_answer_after_another() -> None:
    async with model_of({"answer": {"text": "ok"}}) as (model, server):
        for _ in range(5):
            await model.answer(ASK)
        assert {entry.peer for entry in server.journal} == {server.journal[0].peer}


async def test_an_endpoint_that_does_not_stream_is_understood() -> None:
    told: list[Delta] = []
    async with model_of(fault("not_streamed")) as (model, _):
        assert (await model.answer(ASK, told.extend)).text == SPEECH
    assert told == [Delta(Channel.TEXT, SPEECH)]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (fault("reset_mid", after_tokens=2), "broke"),
        (fault("truncate", after_tokens=2), "cut"),
        (fault("malformed", after_tokens=2), "not JSON"),
        (fault("error", after_tokens=2, status=503, message="overloaded"), "overloaded"),
        (fault("status", status=500), "HTTP 500"),
        (fault("status", status=429, message="slow down"), "slow down"),
    ],
)
async def test_faults_worth_another_try(rule: object, words: str) -> None:
    async with model_of(rule) as (model, server):
        with pytest.raises(ModelUnavailable, match=words):
            await model.answer(ASK)
        server.use([{"answer": {"text": "ok"}}])
        assert (await model.answer(ASK)).text == "ok"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_refusals_are_told_without_the_key(status: int) -> None:
    async with model_of(fault("status", status=status, message=f"your key {KEY} is odd")) as (model, _):
        with pytest.raises(ModelRejected) as raised:
            await model.answer(ASK)
    assert KEY not in str(raised.value)
    assert str(status) in str(raised.value)


async def test_the_key_is_blotted_out_of_errors_inside_a_stream() -> None:
    async with model_of(fault("error", status=400, message=f"{KEY} is odd")) as (model, _):
        with pytest.raises(ModelRejected, match=r"\*\*\* is odd"):
            await model.answer(ASK)


async def test_the_wait_that_a_refusal_asks_for_is_passed_on() -> None:
    async with model_of(fault("status", status=429, retry_after="7")) as (model, _):
        with pytest.raises(ModelUnavailable) as raised:
            await model.answer(ASK)
    assert raised.value.retry_delay == timedelta(seconds=7)


@pytest.mark.parametrize("rule", [fault("hang"), fault("hang_mid"), fault("drip"), fault("hang_mid", after_tokens=0)])
async def test_no_first_token_in_time(rule: object) -> None:
    async with model_of(rule, first_token=0.2) as (model, _):
        with pytest.raises(ModelUnavailable, match="said nothing"):
            await model.answer(ASK)


@pytest.mark.parametrize("kind", ["hang_mid", "drip"])
async def test_silence_in_the_middle(kind: str) -> None:
    async with model_of(fault(kind, after_tokens=2), idle=0.2) as (model, _):
        with pytest.raises(ModelUnavailable, match="fell silent"):
            await model.answer(ASK)


async def test_clients_that_leave_at_any_moment_are_no_error_of_the_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    body = b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}]}'
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    async with mock_server([{"answer": {"text": SPEECH}}]) as server:
        host, _, port = server.base_url.removeprefix("http://").removesuffix("/v1").partition(":")
        for waits in range(40):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(head % len(body) + body)
            for _ in range(waits):
                await asyncio.sleep(0)
            writer.transport.abort()
        await until(lambda: all(entry.outcome != "open" for entry in server.journal))
    assert not [record for record in caplog.records if record.name.startswith("aiohttp")]


async def test_a_long_answer_is_not_silence() -> None:
    rule = {"answer": {"text": "word " * 40}, "pace": {"delay_ms": 20}}
    async with model_of(rule, first_token=0.4, idle=0.4) as (model, _):
        assert (await model.answer(ASK)).text.count("word") == 40


@pytest.mark.parametrize("rule", [fault("hang"), fault("hang_mid", after_tokens=2)])
async def test_cancelling_closes_the_connection_at_once_and_leaves_nothing(rule: object) -> None:
    async with model_of(rule) as (model, server):
        before = asyncio.all_tasks()
        task = asyncio.get_running_loop().create_task(model.answer(ASK))
        await until(lambda: server.journal and server.journal[-1].source)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: server.journal[-1].outcome == "client left")
        await until(lambda: asyncio.all_tasks() <= before)


async def test_an_error_of_the_sink_comes_back_as_it_is() -> None:
    def broken(_: Sequence[Delta]) -> None:
        raise RuntimeError("the sink")

    async with model_of({"answer": {"text": SPEECH}}) as (model, _):
        with pytest.raises(RuntimeError, match="the sink"):
            await model.answer(ASK, broken)


async def test_many_at_once() -> None:
    rule = {"match": {"last_user": "(\\d+)"}, "answer": {"text": "{1}"}, "pace": {"delay_ms": 1}}
    async with model_of(rule) as (model, _):

        async def ask(number: int) -> ModelAnswer:
            return await model.answer(ModelRequest("m", [{"role": "user", "content": str(number)}]))

        answers = await asyncio.gather(*map(ask, range(150)))
    assert [answer.text for answer in answers] == [str(number) for number in range(150)]


async def test_a_probe_tells_whether_the_endpoint_is_there() -> None:
    async with model_of() as (model, server):
        await model.probe()
        gone = OpenAiModel(server.base_url, None, first_token_seconds=1, idle_seconds=1)
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        await gone.probe()
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        await gone.answer(ASK)
    await gone.aclose()


@pytest.mark.parametrize("url", ["", "localhost:80", "ftp://x/v1", "http://", "http://x/v1?a=1", "http://x:port/v1"])
def test_a_base_url_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ValidationFailed, match="llm_base_url"):
        OpenAiModel(url, None, first_token_seconds=1, idle_seconds=1)


def test_a_key_that_fits_in_no_header_is_named_and_not_repeated() -> None:
    with pytest.raises(ValidationFailed, match="llm_api_key") as raised:
        OpenAiModel("http://x/v1", "sec\nret", first_token_seconds=1, idle_seconds=1)
    assert "ret" not in str(raised.value).replace("printable", "")

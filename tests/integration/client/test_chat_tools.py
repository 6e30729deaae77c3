"""Client tool calls through everything that can happen to a client: at most one run, always a result."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from agent_runtime import v1
from agent_runtime_client import CaughtUp, Client, Event, Journal, LocalTools, Superseded, Timing
from clientkit.events import TURN, call, cancel_requested, completed, dispatched, event, started
from clientkit.server import ChatStream, ScriptedServer, status, take, until


class Recorder:
    """An executor that notes what it runs, and finishes when it is told to."""

    def __init__(self, *, hold: bool = False) -> None:
        self.specs: Sequence[v1.ToolSpec] = (
            v1.ToolSpec(name="touch"),
            v1.ToolSpec(name="look", idempotent=True),
        )
        self.runs: list[str] = []
        self.cancelled: list[str] = []
        self.go = asyncio.Event()
        if not hold:
            self.go.set()

    async def run(self, call: v1.ToolCall, deadline: float, progress: Callable[[str], None]) -> v1.ToolResult:
        self.runs.append(call.call_id)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(call.call_id)
            raise
        if call.arguments_json == '"raise"':
            raise RuntimeError("broken tool")
        return v1.ToolResult(status=v1.ToolResult.STATUS_SUCCEEDED, content=[v1.Part(text="done")])


async def begin(stream: ChatStream, call_id: str, seq: int) -> v1.ChatRequest:
    """Confirm that the client may begin a call."""
    frame = await stream.receive()
    assert frame.tool_call_started.call_id == call_id
    await stream.ack(frame, seq=seq)
    return frame


async def test_tools_are_declared_by_an_executor(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1", executor=Recorder()):
        hello = (await server.chat()).hello
    assert hello.role == v1.ATTACH_ROLE_EXECUTOR
    assert [spec.name for spec in hello.tools] == ["touch", "look"]


async def test_a_call_is_run_after_its_start_is_confirmed(server: ScriptedServer, client: Client) -> None:
    tools = Recorder()
    async with client.chat("s1", executor=tools):
        stream = await server.chat()
        await stream.welcome()
        await stream.events(dispatched(1, call("c1")))
        frame = await stream.receive()
        assert frame.tool_call_started.call_id == "c1"
        assert tools.runs == []
        await stream.ack(frame, seq=2)
        result = (await stream.receive()).tool_result
        assert (result.call_id, result.status) == ("c1", v1.ToolResult.STATUS_SUCCEEDED)
        assert result.HasField("start_time")
        assert result.HasField("end_time")
        assert tools.runs == ["c1"]


async def test_an_idempotent_call_does_not_wait(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1", executor=Recorder()):
        stream = await server.chat()
        await stream.welcome()
        await stream.events(dispatched(1, call("c1", "look")))
        kinds = {(await stream.receive()).WhichOneof("frame") for _ in range(2)}
        assert kinds == {"tool_call_started", "tool_result"}


async def test_who_takes_a_lost_clients_place_runs_again_only_what_may_be_repeated(
    server: ScriptedServer, client: Client
) -> None:
    tools = Recorder()
    async with client.chat("s1", executor=tools) as chat:
        stream = await server.chat()
        orders = [dispatched(1, call("c1"), seconds=10**10), dispatched(2, call("c2", "look"), seconds=10**10)]
        await stream.welcome(*orders, started(3, "c1", "lost"), started(4, "c2", "lost"))
        result = (await stream.receive()).tool_result
        assert (result.call_id, result.status) == ("c2", v1.ToolResult.STATUS_SUCCEEDED)
        await stream.events(event(5, user_message=v1.UserMessage()))
        assert [(await take(chat, Event)).event.seq for _ in range(5)] == [1, 2, 3, 4, 5]
    assert tools.runs == ["c2"]


async def test_calls_of_one_answer_run_side_by_side(server: ScriptedServer, client: Client) -> None:
    tools = Recorder(hold=True)
    async with client.chat("s1", executor=tools):
        stream = await server.chat()
        await stream.welcome()
        await stream.events(*(dispatched(seq, call(f"c{seq}", "look")) for seq in (1, 2, 3)))
        await until(lambda: len(tools.runs) == 3)


@pytest.mark.parametrize("reason", ["TOOL_CALL_ALREADY_STARTED", "NOT_EXECUTOR"])
async def test_a_call_that_may_not_be_begun_is_not_run(server: ScriptedServer, client: Client, reason: str) -> None:
    tools = Recorder()
    async with client.chat("s1", executor=tools):
        stream = await server.chat()
        await stream.welcome()
        await stream.events(dispatched(1, call("c1")))
        await stream.ack(await stream.receive(), error=v1.Error(code=9, reason=reason))
        await stream.events(dispatched(2, call("c2", "look")))
        frames = [await stream.receive(), await stream.receive()]
        assert {frame.WhichOneof("frame") for frame in frames} == {"tool_call_started", "tool_result"}
        assert tools.runs == ["c2"]


async def test_an_observer_runs_nothing(server: ScriptedServer, client: Client) -> None:
    tools = Recorder()
    async with client.chat("s1", executor=tools, role=v1.ATTACH_ROLE_OBSERVER) as chat:
        stream = await server.chat()
        assert not stream.hello.tools
        await stream.welcome(dispatched(1, call("c1", "look")))
        await take(chat, CaughtUp)
        assert tools.runs == []


async def test_a_failing_tool_is_a_failed_call(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1", executor=Recorder()):
        stream = await server.chat()
        await stream.welcome()
        await stream.events(dispatched(1, call("c1", arguments='"raise"')))
        await begin(stream, "c1", 2)
        result = (await stream.receive()).tool_result
        assert (result.status, result.error_message) == (
            v1.ToolResult.STATUS_FAILED,
            "RuntimeError: broken tool",
        )


async def test_a_replay_decides_only_when_it_is_complete(server: ScriptedServer, client: Client) -> None:
    tools = Recorder()
    async with client.chat("s1", executor=tools) as chat:
        stream = await server.chat()
        late = dispatched(3, call("c2", "look"), seconds=10**10)
        await stream.welcome(dispatched(1, call("c1", "look")), completed(2, "c1"), late)
        await take(chat, CaughtUp)
        await stream.receive()
        await until(lambda: tools.runs == ["c2"])


async def test_a_run_goes_on_while_the_stream_is_lost(server: ScriptedServer, client: Client) -> None:
    tools = Recorder(hold=True)
    async with client.chat("s1", client_id="me", executor=tools):
        stream = await server.chat()
        await stream.welcome()
        await stream.events(dispatched(1, call("c1")))
        await begin(stream, "c1", 2)
        await until(lambda: tools.runs == ["c1"])
        stream.end(status(grpc.StatusCode.UNAVAILABLE))
        stream = await server.chat()
        tools.go.set()
        await stream.welcome(started(2, "c1", "me"))
        assert (await stream.receive()).tool_result.call_id == "c1"
        assert tools.runs == ["c1"]


async def test_a_cancelled_turn_stops_its_runs(server: ScriptedServer, client: Client) -> None:
    tools = Recorder(hold=True)
    async with client.chat("s1", executor=tools):
        stream = await server.chat()
        await stream.welcome()
        await stream.events(dispatched(1, call("c1")))
        await begin(stream, "c1", 2)
        await until(lambda: tools.runs == ["c1"])
        await stream.events(event(2), cancel_requested(3))
        result = (await stream.receive()).tool_result
        assert (result.call_id, result.status) == ("c1", v1.ToolResult.STATUS_CANCELLED)
        assert tools.cancelled == ["c1"]


async def test_a_call_completed_elsewhere_is_stopped_without_a_word(server: ScriptedServer, client: Client) -> None:
    tools = Recorder(hold=True)
    async with client.chat("s1", executor=tools) as chat:
        stream = await server.chat()
        await stream.welcome()
        await stream.events(dispatched(1, call("c1")))
        await begin(stream, "c1", 2)
        await until(lambda: tools.runs == ["c1"])
        await stream.events(event(2), completed(3, "c1"))
        await until(lambda: tools.cancelled == ["c1"])
        async with asyncio.TaskGroup() as group:
            cancelling = group.create_task(chat.cancel())
            frame = await stream.receive()
            assert frame.WhichOneof("frame") == "cancel_turn"
            await stream.ack(frame)
            await cancelling


async def test_a_deadline_ends_a_run(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1", executor=Recorder(hold=True)):
        stream = await server.chat()
        await stream.welcome()
        await stream.events(dispatched(1, call("c1"), seconds=1))
        await begin(stream, "c1", 2)
        assert (await stream.receive()).tool_result.status == v1.ToolResult.STATUS_TIMED_OUT


async def test_closing_stops_runs_and_says_so(server: ScriptedServer, client: Client) -> None:
    tools = Recorder(hold=True)
    async with asyncio.TaskGroup() as group:
        chat = await client.chat("s1", executor=tools).__aenter__()
        stream = await server.chat()
        await stream.welcome()
        await stream.events(dispatched(1, call("c1")))
        await begin(stream, "c1", 2)
        await until(lambda: tools.runs == ["c1"])
        closing = group.create_task(chat.aclose())
        frame = await stream.receive()
        assert frame.tool_result.status == v1.ToolResult.STATUS_FAILED
        assert "client was closed" in frame.tool_result.error_message
        await stream.ack(frame, seq=3)
        await closing


async def test_another_executor_ends_the_chat_but_its_own_call_is_delivered(
    server: ScriptedServer, client: Client
) -> None:
    tools = Recorder(hold=True)
    async with client.chat("s1", client_id="me", executor=tools) as chat:
        stream = await server.chat()
        await stream.welcome()
        await stream.events(dispatched(1, call("c1")))
        await begin(stream, "c1", 2)
        await until(lambda: tools.runs == ["c1"])
        stream.end(status(grpc.StatusCode.ABORTED, "ATTACHMENT_SUPERSEDED"))
        with pytest.raises(Superseded):
            async for _ in chat:
                pass
        tools.go.set()
        await until(lambda: bool(server.submitted))
    request = server.submitted[0]
    assert (request.session_id, request.client_id) == ("s1", "me")
    assert request.frame.tool_result.call_id == "c1"
    assert server.chats.empty()


async def test_a_call_of_a_superseded_chat_is_delivered_as_soon_as_the_server_takes_it(
    server: ScriptedServer,
) -> None:
    tools = Recorder(hold=True)
    impatient = Timing(backoff_first=0.01, backoff_most=0.05, close_seconds=0.3, refused_call_seconds=0)
    async with Client(server.target, timing=impatient) as client, client.chat("s1", executor=tools) as chat:
        stream = await server.chat()
        await stream.welcome()
        await stream.events(dispatched(1, call("c1")))
        await begin(stream, "c1", 2)
        await until(lambda: tools.runs == ["c1"])
        stream.end(status(grpc.StatusCode.ABORTED, "ATTACHMENT_SUPERSEDED"))
        with pytest.raises(Superseded):
            async for _ in chat:
                pass
        server.refusals += [status(grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE", retry_delay=0.01)] * 2
        tools.go.set()
        await until(lambda: len(server.submitted) == 3)
    assert len({request.frame.frame_id for request in server.submitted}) == 1


async def test_a_newer_executor_is_noticed_also_when_the_status_is_lost(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1", executor=Recorder()) as chat:
        stream = await server.chat()
        old = event(1, executor_changed=v1.ExecutorChanged(client_id="older", epoch=3))
        await stream.welcome(old, executor_epoch=4)
        await take(chat, CaughtUp)
        await stream.events(event(2, executor_changed=v1.ExecutorChanged(client_id="other", epoch=5)))
        stream.end(status(grpc.StatusCode.INTERNAL))
        await take(chat, Event)
        with pytest.raises(Superseded):
            await take(chat, CaughtUp)


async def run_one(stream: ChatStream) -> v1.ChatRequest:
    """Have the client run c1, and return the frame with its result."""
    await stream.welcome()
    await stream.events(dispatched(1, call("c1")))
    await begin(stream, "c1", 2)
    return await stream.receive()


async def test_a_result_the_server_cannot_take_becomes_a_failure(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1", executor=Recorder()):
        stream = await server.chat()
        frame = await run_one(stream)
        await stream.ack(frame, error=v1.Error(code=8, reason="FRAME_TOO_LARGE"))
        again = await stream.receive()
        assert again.frame_id != frame.frame_id
        assert again.tool_result.status == v1.ToolResult.STATUS_FAILED
        assert "FRAME_TOO_LARGE" in again.tool_result.error_message


async def test_a_result_refused_for_a_while_is_sent_again(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1", executor=Recorder()):
        stream = await server.chat()
        frame = await run_one(stream)
        busy = v1.Error(code=8, reason="QUOTA_EXCEEDED", retry_delay=Duration(nanos=1_000_000))
        await stream.ack(frame, error=busy)
        assert await stream.receive() == frame


async def test_a_result_nobody_wants_is_forgotten(server: ScriptedServer, client: Client, tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        async with client.chat("s1", executor=Recorder(), journal=journal):
            stream = await server.chat()
            frame = await run_one(stream)
            assert journal.entry("s1", "c1") is not None
            await stream.ack(frame, error=v1.Error(code=9, reason="TURN_ALREADY_FINISHED"))
            await until(lambda: journal.entry("s1", "c1") is None)


async def test_progress_is_told_here_and_to_the_server(server: ScriptedServer, client: Client, tmp_path: Path) -> None:
    async with client.chat("s1", executor=LocalTools(tmp_path)) as chat:
        stream = await server.chat()
        await stream.welcome()
        order = call("c1", "execute_command", '{"command": "echo one; cat"}')
        await stream.events(dispatched(1, order))
        await begin(stream, "c1", 2)
        progress = (await stream.receive()).tool_progress
        assert (progress.call_id, progress.index, progress.text) == ("c1", 0, "one\n")
        assert await take(chat, v1.ToolProgress) == progress
        assert (await stream.receive()).tool_result.content[0].text == "exit code: 0\none\n"


class Restarted:
    """A client with a journal that dies after it began a call, and what its next life finds."""

    def __init__(self, server: ScriptedServer, client: Client, directory: Path) -> None:
        self.server, self.client, self.directory = server, client, directory
        self.client_id = ""

    async def die_while_running(self, tool: str) -> None:
        """Begin c1, and vanish without a trace but the journal."""
        journal, tools = Journal.open(self.directory), Recorder(hold=True)
        self.client_id = journal.client_id
        chat = self.client.chat("s1", executor=tools, journal=journal)
        await chat.__aenter__()
        stream = await self.server.chat()
        await stream.welcome()
        await stream.events(dispatched(1, call("c1", tool), seconds=10**10))
        await begin(stream, "c1", 2)
        await until(lambda: tools.runs == ["c1"])
        journal.close()
        await chat.aclose()

    async def die_before_the_result_is_confirmed(self) -> v1.ChatRequest:
        """Run c1, send its result, and vanish before the ack."""
        with Journal.open(self.directory) as journal:
            self.client_id = journal.client_id
            async with self.client.chat("s1", executor=Recorder(), journal=journal):
                stream = await self.server.chat()
                await stream.welcome()
                await stream.events(dispatched(1, call("c1"), seconds=10**10))
                await begin(stream, "c1", 2)
                return await stream.receive()


@pytest.fixture
def restarted(server: ScriptedServer, client: Client, tmp_path: Path) -> Restarted:
    return Restarted(server, client, tmp_path / "journal")


async def test_a_call_lost_in_a_crash_is_confessed_and_never_run_again(restarted: Restarted) -> None:
    await restarted.die_while_running("touch")
    tools = Recorder()
    with Journal.open(restarted.directory) as journal:
        assert journal.client_id == restarted.client_id
        async with restarted.client.chat("s1", executor=tools, journal=journal):
            stream = await restarted.server.chat()
            order = dispatched(1, call("c1"), seconds=10**10)
            await stream.welcome(order, started(2, "c1", journal.client_id))
            result = (await stream.receive()).tool_result
            assert result.status == v1.ToolResult.STATUS_OUTCOME_UNKNOWN
    assert tools.runs == []


async def test_an_idempotent_call_lost_in_a_crash_is_run_again(restarted: Restarted) -> None:
    await restarted.die_while_running("look")
    tools = Recorder()
    with Journal.open(restarted.directory) as journal:
        async with restarted.client.chat("s1", executor=tools, journal=journal):
            stream = await restarted.server.chat()
            order = dispatched(1, call("c1", "look"), seconds=10**10)
            await stream.welcome(order, started(2, "c1", journal.client_id))
            assert (await stream.receive()).tool_result.status == v1.ToolResult.STATUS_SUCCEEDED
    assert tools.runs == ["c1"]


async def test_a_result_lost_in_a_crash_is_sent_again_with_the_same_id(restarted: Restarted) -> None:
    sent = await restarted.die_before_the_result_is_confirmed()
    tools = Recorder()
    with Journal.open(restarted.directory) as journal:
        async with restarted.client.chat("s1", executor=tools, journal=journal):
            stream = await restarted.server.chat()
            order = dispatched(1, call("c1"), seconds=10**10)
            await stream.welcome(order, started(2, "c1", journal.client_id))
            assert await stream.receive() == sent
    assert tools.runs == []


async def test_a_call_that_cannot_be_recorded_is_not_run(
    server: ScriptedServer, client: Client, tmp_path: Path
) -> None:
    tools, journal = Recorder(), Journal.open(tmp_path)
    journal.close()
    async with client.chat("s1", executor=tools, journal=journal):
        stream = await server.chat()
        await stream.welcome()
        await stream.events(dispatched(1, call("c1")))
        result = (await stream.receive()).tool_result
        assert (result.status, result.error_message) == (
            v1.ToolResult.STATUS_FAILED,
            "not run: the journal is closed",
        )
    assert tools.runs == []


async def test_a_chat_that_begins_late_learns_of_open_calls(server: ScriptedServer, client: Client) -> None:
    tools = Recorder()
    server.log = [
        event(1),
        dispatched(2, call("c0", "look"), seconds=10**10),
        dispatched(3, call("c1", "look"), seconds=10**10),
        completed(4, "c0"),
        event(5),
    ]
    turn = v1.Turn(turn_id=TURN, pending_call_ids=["c1"], first_seq=1)
    async with client.chat("s1", executor=tools, after_seq=5):
        stream = await server.chat()
        await stream.welcome(head=5, session=v1.Session(session_id="s1", current_turn=turn))
        await stream.receive()
        await until(lambda: tools.runs == ["c1"])

"""What is remembered of a finished turn is the same, in less room."""

from agent_runtime import v1
from agent_runtime_server.core.transcript import Answered, Called, Entry, Said, conclude


def turn(text: str) -> list[Entry]:
    result = v1.ToolResult(call_id="call-1", content=[v1.Part(text=text)])
    called = Called(v1.ToolCall(call_id="call-1", tool_name="read_file"), result)
    answered = Answered(v1.AssistantMessage(message_id="msg-1", parts=[v1.Part(text=text)]), [called])
    return [Said(v1.UserMessage(parts=[v1.Part(text=text)])), answered]


def test_a_finished_turn_is_remembered_as_it_was() -> None:
    transcript = turn("äöü")
    conclude(transcript, [])
    assert transcript == turn("äöü")


def test_its_messages_no_longer_are_parts_of_the_events_that_brought_them() -> None:
    event = v1.SessionEvent(user_message=v1.UserMessage(parts=[v1.Part(text="said")]))
    transcript: list[Entry] = [Said(event.user_message)]
    conclude(transcript, [])
    event.user_message.Clear()
    assert transcript == [Said(v1.UserMessage(parts=[v1.Part(text="said")]))]

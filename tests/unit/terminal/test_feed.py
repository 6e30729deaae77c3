"""Each piece of text is printed once, however it arrives."""

from agent_runtime import v1
from agent_runtime_client import CaughtUp, Connected, Disconnected, Notice, TextDelta, updates
from agent_runtime_client.terminal.feed import Chunk, Feed, Line, Voice
from terminalkit.messages import (
    answered,
    asked,
    call,
    completed,
    dispatched,
    finished,
    handed_over,
    proposed,
    resolved,
    routed,
    said_by_user,
)


def delta(text: str, *, attempt: int = 1, replace: bool = False, message_id: str = "m1", channel: int = 1) -> TextDelta:
    kind = v1.MessageDelta.Channel.ValueType(channel)
    return TextDelta("t1", message_id, attempt, kind, text, replace)


def shown(feed: Feed, *told: updates.ChatUpdate) -> str:
    pieces = [piece for update in told for piece in feed.apply(update)]
    return "".join(piece.text if isinstance(piece, Chunk) else f"\n{piece.text.plain}\n" for piece in pieces)


def test_streamed_text_is_not_repeated_by_its_event() -> None:
    assert shown(Feed(), delta("Hel"), delta("lo"), answered("Hello")) == "Hello"


def test_text_that_was_never_streamed_comes_with_its_event() -> None:
    assert shown(Feed(), answered("Hello")) == "Hello"


def test_text_lost_on_the_way_is_made_up_for_by_the_event() -> None:
    assert shown(Feed(), delta("Hel"), answered("Hello you")) == "Hello you"


def test_a_snapshot_after_a_reconnect_continues_what_is_shown() -> None:
    assert shown(Feed(), delta("Hel"), delta("Hello w", replace=True), delta("orld")) == "Hello world"


def test_another_attempt_says_what_is_different_once_more() -> None:
    text = shown(Feed(), delta("Hello"), delta("Hi", attempt=2), delta(" you", attempt=2), answered("Hi you"))
    assert text == "Hello\n↻ once more:\nHi you"


def test_another_attempt_that_says_the_same_goes_on_silently() -> None:
    text = shown(Feed(), delta("Hello"), delta("He", attempt=2), delta("llo", attempt=2), delta("!", attempt=2))
    assert text == "Hello!"


def test_reasoning_has_a_voice_of_its_own() -> None:
    pieces = [*Feed().apply(delta("hm", channel=2)), *Feed().apply(answered("so", reasoning="hm"))]
    assert [piece.voice for piece in pieces if isinstance(piece, Chunk)] == [
        Voice.REASONING,
        Voice.REASONING,
        Voice.ANSWER,
    ]


def test_arguments_being_written_are_counted_not_shown() -> None:
    feed = Feed()
    assert shown(feed, delta('{"a"', channel=3), delta(": 1}", channel=3)) == ""
    assert feed.writing == 8


def test_what_runs_unasked_is_told_before_it_runs_unless_it_only_reads() -> None:
    read, write = call("read_file", path="a"), call("write_file", effect=v1.TOOL_EFFECT_WRITE, path="b")
    assert shown(Feed(), dispatched(read)) == ""
    assert shown(Feed(), dispatched(write)) == "\n→ write_file b\n"
    assert shown(Feed(), dispatched(write, approval_id="a1")) == ""


def test_results_are_told() -> None:
    text = shown(Feed(), proposed(call("read_file", path="a")), completed("c1", "x\ny"))
    assert text == "\n✓ read_file a · 2 lines\n"


def test_the_tools_of_the_runtime_are_told_by_what_they_cause() -> None:
    assert shown(Feed(), proposed(call("switch_agent", agent_id="coder")), completed("c1", "ok")) == ""


def test_a_handoff_is_told_when_the_work_goes_on() -> None:
    text = shown(Feed(), handed_over("debug", "coder"), delta("I go"), answered("I go on"))
    assert text == "\n⇢ debug hands over to coder: because\n" + "I go on"


def test_a_choice_of_agent_is_told_once() -> None:
    text = shown(Feed(), handed_over("orchestrator", "debug"), routed("debug"))
    assert text == "\n⇢ debug answers (model, high confidence): because\n"


def test_output_that_was_streamed_is_not_shown_again() -> None:
    command = call("execute_command", effect=v1.TOOL_EFFECT_EXECUTE, command="make")
    live = Feed()
    shown(live, proposed(command))
    assert shown(live, v1.ToolProgress(call_id="c1", text="building\n")) == "building\n"
    assert "building" not in shown(live, completed("c1", "exit code 0\nbuilding"))
    past = Feed()
    assert "│ building" in shown(past, proposed(command), completed("c1", "exit code 0\nbuilding"))


def test_a_disconnect_is_told_once_and_so_is_its_end() -> None:
    feed = Feed()
    lost = Disconnected("the connection was lost", 0.2)
    text = shown(feed, lost, lost, Connected(v1.ChatWelcome()), Connected(v1.ChatWelcome()))
    assert text.count("disconnected") == 1
    assert text.count("connected again") == 1


def test_notices_are_cleaned_and_shown() -> None:
    assert shown(Feed(), Notice("a mock\x1b[2J model")) == "\n! a mock model\n"


def test_what_holds_a_turn_up_is_told_with_its_time() -> None:
    retry = v1.TurnNotice(kind=v1.TurnNotice.KIND_RETRY, reason="HTTP 503")
    retry.wait.FromMilliseconds(1500)
    other = v1.TurnNotice(kind=v1.TurnNotice.KIND_FALLBACK, reason="the circuit is open", model="small")
    assert shown(Feed(), retry) == "\n… HTTP 503; asks again in 1.5 s\n"
    assert shown(Feed(), other) == "\n… the circuit is open; asks small\n"


def test_a_parked_turn_says_what_it_waits_for_until_it_goes_on() -> None:
    feed = Feed()
    error = v1.Error(reason="MODEL_UNAVAILABLE", message="no answer")
    parked = updates.Event(v1.SessionEvent(turn_id="t1", turn_parked=v1.TurnParked(error=error)))
    begun = updates.Event(v1.SessionEvent(turn_id="t1", user_message=v1.UserMessage()))
    assert "waiting for a model: no answer" in shown(feed, begun, parked)
    assert feed.view.status() == "waiting for a model to come back"
    assert "goes on" in shown(feed, updates.Event(v1.SessionEvent(turn_id="t1", turn_resumed=v1.TurnResumed())))
    assert "waiting" not in feed.view.status()


def test_the_end_of_a_turn_says_how_it_ended() -> None:
    failure = v1.TurnFinished(state=v1.TURN_STATE_FAILED, error=v1.Error(reason="TURN_TIMEOUT", message="too long"))
    event = updates.Event(v1.SessionEvent(turn_id="t1", turn_finished=failure))
    assert "failed: too long (TURN_TIMEOUT)" in shown(Feed(), event)
    assert "cancelled" in shown(Feed(), finished(v1.TURN_STATE_CANCELLED))


def test_a_newer_servers_event_is_passed_over() -> None:
    assert Feed().apply(updates.Event(v1.SessionEvent(seq=9))) == []


def test_the_view_knows_what_goes_on() -> None:
    feed = Feed()
    write = call("write_file", effect=v1.TOOL_EFFECT_WRITE, path="b")
    busy = [feed.view.busy]
    shown(feed, said_by_user("go"), asked(write))
    assert [*busy, feed.view.busy] == [False, True]
    assert (feed.view.status(), list(feed.view.approvals)) == ("waiting for a decision", ["a1"])
    shown(feed, resolved(write, v1.APPROVAL_STATE_APPROVED))
    assert not feed.view.approvals
    shown(feed, finished())
    assert (feed.view.busy, feed.view.status()) == (False, "")


def test_a_turn_that_ends_leaves_no_approval_behind() -> None:
    feed = Feed()
    shown(feed, said_by_user("go"), asked(call("write_file", path="b")), finished(v1.TURN_STATE_CANCELLED))
    assert not feed.view.approvals


def test_a_question_waits_for_the_user_until_the_next_message() -> None:
    feed = Feed()
    question = v1.Question(question_id="q1", agent_id="ask", text="Which?", options=[v1.QuestionOption(label="this")])
    event = updates.Event(v1.SessionEvent(turn_id="t1", question_asked=v1.QuestionAsked(question=question)))
    assert "? ask asks: Which?\n  1. this" in shown(feed, said_by_user("go"), event)
    busy = [feed.view.busy]
    shown(feed, said_by_user("this"))
    assert [*busy, feed.view.busy] == [False, True]


def test_history_ends_where_the_server_says() -> None:
    feed = Feed()
    live = [feed.live, bool(feed.apply(CaughtUp(3))), feed.live]
    assert live == [False, False, True]


def test_lines_and_chunks_are_the_only_pieces() -> None:
    pieces = Feed().apply(said_by_user("hello"))
    assert [type(piece) for piece in pieces] == [Line]

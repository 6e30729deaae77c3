"""A client whose streams are recorded frame by frame, as they are read from the wire and put on it."""

from collections.abc import Callable
from typing import Any, cast

import grpc

from agent_runtime import v1
from agent_runtime_client import Client, Timing
from agent_runtime_client.channels import Channels
from killkit.records import Recorder, What

_ABOUT = {
    "tool_call_started": "call_id",
    "tool_result": "call_id",
    "approval_decision": "approval_id",
    "decision": "approval_id",
}
_OUTCOMES = v1.FrameAck.Outcome


class _RecordingChannel:
    """A channel whose bidirectional streams are recorded where bytes become messages: before anybody has seen them."""

    def __init__(self, channel: grpc.aio.Channel, recorder: Recorder) -> None:
        self._channel = channel
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        **options: Any,
    ) -> Any:
        """Return the method, recorded; a stub is made for each stream, so this is one stream."""
        recorder, stream = self._recorder, self._recorder.new_stream()

        def serialize(frame: Any) -> bytes:
            note_sent(recorder, stream, frame)
            return request_serializer(frame)

        def deserialize(data: bytes) -> Any:
            frame = response_deserializer(data)
            note_received(recorder, stream, frame)
            return frame

        return self._channel.stream_stream(method, serialize, deserialize, **options)


class _RecordingChannels(Channels):
    def __init__(self, target: str, recorder: Recorder) -> None:
        super().__init__(target, None)
        self._recorder = recorder

    def _open(self) -> grpc.aio.Channel:
        return cast("grpc.aio.Channel", _RecordingChannel(super()._open(), self._recorder))


def recorded_client(target: str, timing: Timing, recorder: Recorder) -> Client:
    """Return a client of the library, its connections recorded."""
    client = Client(target, timing=timing)
    client._channels = _RecordingChannels(target, recorder)
    return client


def note_sent(recorder: Recorder, stream: int, frame: v1.ChatRequest | v1.HitlRequest) -> None:
    """Record a hello or a durable frame."""
    kind = frame.WhichOneof("frame") or ""
    if kind == "hello":
        recorder.note(What.HELLO, stream=stream, seq=getattr(frame.hello, "after_seq", 0))
    elif frame.frame_id:
        about = _ABOUT.get(kind)
        key = getattr(getattr(frame, kind), about) if about else ""
        recorder.note(What.SENT, stream=stream, frame_id=frame.frame_id, detail=kind, key=key)


def note_received(recorder: Recorder, stream: int, frame: v1.ChatResponse | v1.HitlResponse) -> None:
    """Record an event, an ack, or the end of a replay."""
    kind = frame.WhichOneof("frame")
    if isinstance(frame, v1.ChatResponse) and kind == "event":
        event = frame.event
        payload = event.WhichOneof("payload") or ""
        recorder.note(
            What.EVENT, stream=stream, seq=event.seq, frame_id=event.frame_id, key=event.turn_id, detail=payload
        )
    elif kind == "frame_ack":
        ack = frame.frame_ack
        outcome = _OUTCOMES.Name(ack.outcome).removeprefix("OUTCOME_")
        recorder.note(What.ACK, stream=stream, seq=ack.seq, frame_id=ack.frame_id, detail=outcome, key=ack.error.reason)
    elif kind == "welcome":
        recorder.note(What.WELCOME, stream=stream, key=frame.welcome.replica_id)
    elif kind == "caught_up":
        recorder.note(What.CAUGHT_UP, stream=stream, seq=frame.caught_up.head_seq)

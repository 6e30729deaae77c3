"""What a user says while a turn runs reaches it, whichever replica it is said to."""

from agent_runtime import v1
from agent_runtime_server.engine.session import Committed
from enginekit.model import Answer
from enginekit.replica import OFTEN, Replica, log, replica, until
from enginekit.turns import until_true


async def said(there: Replica, session_id: str, delivery: "v1.MessageDelivery.ValueType") -> Committed:
    message = v1.UserMessage(parts=[v1.Part(text="rather this")], delivery=delivery)
    return await there.submit(await there.session(session_id), user_message=message)


async def test_a_message_that_steers_reaches_the_next_step_of_a_turn_that_another_replica_runs(
    database_url: str,
) -> None:
    async with replica(database_url, timing=OFTEN) as here, replica(database_url) as there:
        session = await here.new_session()
        here.model.then(Answer("first", holds=True), Answer("second"))
        await here.say(session)
        await until_true(lambda: bool(here.model.requests))
        steering = await said(there, session.session_id, v1.MESSAGE_DELIVERY_STEER)
        here.model.go.set()
        await until(session, "turn_finished")
        seen = [event.steering_seen for event in await log(session) if event.HasField("steering_seen")]
        assert [(list(one.message_seqs), one.step_number) for one in seen] == [([steering.seq], 1)]


async def test_a_message_that_interrupts_ends_the_turn_that_another_replica_runs(database_url: str) -> None:
    async with replica(database_url, timing=OFTEN) as here, replica(database_url) as there:
        session = await here.new_session()
        here.model.then(Answer("first", holds=True), Answer("second"))
        await here.say(session)
        await until_true(lambda: bool(here.model.requests))
        await said(there, session.session_id, v1.MESSAGE_DELIVERY_INTERRUPT)
        await until_true(lambda: here.model.aborted == 1)
        cancelled = await until(session, "turn_finished")
        assert cancelled.turn_finished.state == v1.TURN_STATE_CANCELLED

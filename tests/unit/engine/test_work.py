"""What turns take beside models is told by what each commit adds, whoever makes it."""

from agent_runtime import v1
from agent_runtime_server.engine.draft import Draft
from agent_runtime_server.engine.summary import summary
from agent_runtime_server.engine.work import done, usual

from .test_history import Chaos
from .world import SECOND, World

READ = ("read_file", {"path": "a.py"})
WRITE = ("write_file", {"path": "a.py", "content": "x"})


def test_commits_add_up_to_what_the_session_tells() -> None:
    world = World()
    for _ in range(2):
        world.say()
        world.nanos += 2 * SECOND
        [read] = world.dispatched(world.answer(READ, WRITE))
        world.nanos += 3 * SECOND
        world.result(read)
        world.crash()
        world.nanos += 200 * SECOND  # waiting for a human, which is nobody's
        [write] = world.dispatched(world.decide())
        world.nanos += SECOND // 2
        world.result(write)
        world.answer(text="done")
        world.nanos += 1000 * SECOND  # between turns, likewise
    assert (world.worked.tool_calls, world.worked.worked_millis) == (4, 11_000)
    told = summary(world.state).usage
    assert (told.tool_calls, told.worked_millis, told.model_calls) == (4, 11_000, 4)


def test_any_history_adds_up() -> None:
    for seed in range(20):
        chaos = Chaos(seed)
        for _ in range(60):
            chaos.act()
        chaos.end()
        now = done(chaos.world.state)
        assert (chaos.world.worked.tool_calls, chaos.world.worked.worked_millis) == (now.tool_calls, now.millis)


def test_what_a_turn_took_is_of_who_asked_for_it_also_when_anothers_begins() -> None:
    world = World()
    world.say()
    world.say("and then")
    world.nanos += SECOND
    draft = Draft(world.state, world.nanos, world.new_id, world.agents, world.limits)
    assert draft.work_before.subject == "user"
    draft.finish(v1.TURN_STATE_COMPLETED)
    assert draft.work_before.until(world.state) == v1.Usage(worked_millis=1000)


def test_a_commit_without_work_adds_nothing() -> None:
    world = World()
    assert done(world.state).until(world.state) is None


def test_the_usual_time_of_a_step_is_the_average_of_the_turn() -> None:
    world = World()
    world.say()
    assert usual(world.state) == 0
    for seconds in (1, 4):
        world.nanos += seconds * SECOND
        [call] = world.dispatched(world.answer(READ))
        world.nanos += SECOND
        world.result(call)
    assert usual(world.state) == 3500

"""Humans decide about calls: on the chat, on the reviewers' stream, without a stream, or not in time."""

import json
from collections.abc import AsyncIterator

import grpc
import pytest

from agent_runtime import v1
from agent_runtime_server.mockllm.server import MockServer
from servicekit.model import calls, messages, says
from servicekit.process import serving
from servicekit.service import STANDARD_TOOLS, Service, reason_of, tools
from servicekit.streams import decision

REJECT = v1.APPROVAL_VERDICT_REJECT
EDIT = v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS

WRITE_A = ("write_file", {"path": "a.txt", "content": "a"})


@pytest.fixture(scope="module")
async def impatient(one_model: MockServer) -> AsyncIterator[Service]:
    """A server whose approvals expire at once."""
    settings = {"AGENT_RUNTIME_LLM_BASE_URL": one_model.base_url, "AGENT_RUNTIME_HITL_TIMEOUT": "0.2"}
    async with serving(settings) as server:
        service = Service(server.target)
        async with service.channel:
            yield service


async def test_a_reviewer_edits_and_the_second_one_is_late(service: Service, model: MockServer) -> None:
    model.use([calls(("execute_command", {"command": "rm -rf build"})), says("Removed.")])
    session_id = await service.new_session()
    async with service.chat(session_id) as chat, service.review() as one, service.review("reviewer-2") as two:
        await chat.say("clean up")
        seen = await one.approval(session_id)
        assert (seen.state, seen.revision, seen.decidable_by_caller) == (v1.APPROVAL_STATE_PENDING, 1, True)
        assert seen.tool_call.risk == v1.RISK_LEVEL_HIGH
        claimed = await one.submit(claim=v1.ApprovalClaim(approval_id=seen.approval_id))
        assert claimed.outcome == v1.FrameAck.OUTCOME_ACCEPTED
        assert (await two.approval(session_id, revision=2)).claimant.subject == one.reviewer
        edited = json.dumps({"command": "rm -rf build/tmp"})
        edits = decision(seen, EDIT, edited_arguments_json=edited)
        decided = await one.submit(frame_id=f"h2-{session_id}", decision=edits)
        late = await two.submit(decision=decision(seen, REJECT))
        repeated = await one.submit(frame_id=f"h2-{session_id}", decision=edits)
        (call,) = await chat.calls(1)
        await chat.result(call.call_id)
        await chat.finished()
        final = await two.approval(session_id, revision=3)
    assert call.arguments_json == edited
    assert chat.events[decided.seq - 1].approval_resolved.approval.state == v1.APPROVAL_STATE_APPROVED_WITH_EDITS
    assert chat.events[decided.seq].tool_call_dispatched.approval_id == seen.approval_id
    assert late.error.reason == "APPROVAL_ALREADY_RESOLVED"
    assert dict(late.error.metadata) == {"state": "APPROVED_WITH_EDITS", "revision": "3"}
    assert (repeated.outcome, repeated.seq) == (v1.FrameAck.OUTCOME_DUPLICATE, decided.seq)
    assert (final.state, final.revision) == (v1.APPROVAL_STATE_APPROVED_WITH_EDITS, 3)
    asked_for = messages(model)[-2]["tool_calls"][0]["function"]
    assert asked_for == {"name": "execute_command", "arguments": edited}


async def test_the_user_of_the_chat_rejects_with_a_word_for_the_model(service: Service, model: MockServer) -> None:
    model.use([calls(WRITE_A), says("All right.")])
    async with service.chat(await service.new_session()) as chat:
        await chat.say("write")
        approval = (await chat.event("approval_requested")).approval_requested.approval
        ack = await chat.submit(
            approval_decision=v1.ApprovalDecision(
                approval_id=approval.approval_id, verdict=REJECT, comment="not that file"
            )
        )
        await chat.finished()
    assert ack.outcome == v1.FrameAck.OUTCOME_ACCEPTED
    assert "tool_call_dispatched" not in chat.kinds()
    result = (await chat.event("tool_call_completed")).tool_call_completed.result
    assert (result.status, result.source) == (v1.ToolResult.STATUS_REJECTED, v1.ToolResult.SOURCE_SERVER)
    assert "not that file" in messages(model)[-1]["content"]


async def test_only_what_was_seen_can_be_approved(service: Service, model: MockServer) -> None:
    model.use([calls(WRITE_A), says("Done.")])
    async with service.chat(await service.new_session()) as chat:
        await chat.say("write")
        approval = (await chat.event("approval_requested")).approval_requested.approval
        unseen = decision(approval)
        unseen.expected_revision = 7
        undigested = decision(approval)
        undigested.arguments_sha256 = ""
        other = decision(approval)
        other.arguments_sha256 = "0" * 64
        misfit = decision(approval, EDIT, edited_arguments_json='{"path": 1}')
        unknown = decision(v1.Approval(approval_id="approval-of-nobody"), REJECT)
        refusals = [await chat.submit(approval_decision=one) for one in (unseen, undigested, other, misfit, unknown)]
        accepted = await chat.submit(approval_decision=decision(approval))
        (call,) = await chat.calls(1)
        await chat.result(call.call_id)
        await chat.finished()
    assert [ack.error.reason for ack in refusals] == [
        "APPROVAL_STALE",
        "VALIDATION_FAILED",
        "APPROVAL_STALE",
        "TOOL_ARGUMENTS_INVALID",
        "APPROVAL_NOT_FOUND",
    ]
    assert refusals[1].error.field_violations[0].field == "approval_decision.arguments_sha256"
    assert accepted.outcome == v1.FrameAck.OUTCOME_ACCEPTED


async def test_a_decided_call_starts_while_its_sibling_waits(service: Service, model: MockServer) -> None:
    model.use([calls(WRITE_A, ("write_file", {"path": "b.txt", "content": "b"})), says("Done.")])
    session_id = await service.new_session()
    async with service.chat(session_id) as chat:
        await chat.say("write both")
        first, second = [(await chat.event("approval_requested", n)).approval_requested.approval for n in (0, 1)]
        await chat.submit(approval_decision=decision(second))
        (call,) = await chat.calls(1)
        turn = (await service.sessions.GetSession(v1.GetSessionRequest(session_id=session_id))).session.current_turn
        assert turn.state == v1.TURN_STATE_WAITING_FOR_TOOL
        assert (turn.pending_call_ids, turn.pending_approval_ids) == ([call.call_id], [first.approval_id])
        await chat.result(call.call_id, "b is there")
        await chat.submit(approval_decision=decision(first))
        await chat.result((await chat.calls(2))[1].call_id, "a is there")
        await chat.finished()
    assert call.call_id == second.tool_call.call_id
    assert [m["content"] for m in messages(model)[-2:]] == ["a is there", "b is there"]


async def test_a_call_waits_for_the_calls_it_depends_on(service: Service, model: MockServer) -> None:
    model.use([calls(WRITE_A, ("read_file", {"path": "a.txt"})), says("Done.")])
    async with service.chat(await service.new_session()) as chat:
        await chat.say("write and read")
        approval = (await chat.event("approval_requested")).approval_requested.approval
        proposed = (await chat.event("tool_call_proposed", 1)).tool_call_proposed.tool_call
        await chat.submit(approval_decision=decision(approval))
        (write,) = await chat.calls(1)
        await chat.submit(tool_call_started=v1.ToolCallStarted(call_id=write.call_id))
        assert chat.kinds().count("tool_call_dispatched") == 1
        await chat.result(write.call_id)
        await chat.result((await chat.calls(2))[1].call_id)
        await chat.finished()
    assert proposed.depends_on_call_ids == [write.call_id]


async def test_tools_that_only_the_client_knows_ask(service: Service, model: MockServer) -> None:
    schema = json.dumps({"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]})
    mail = v1.ToolSpec(name="mail", input_schema_json=schema, risk=v1.RISK_LEVEL_LOW, effect=v1.TOOL_EFFECT_READ)
    model.use([calls(("mail", {"to": "a"}), ("mail", {"cc": "b"})), says("Sent.")])
    async with service.chat(await service.new_session(), tools=[*tools(*STANDARD_TOOLS), mail]) as chat:
        await chat.say("mail it")
        approval = (await chat.event("approval_requested")).approval_requested.approval
        refused = (await chat.event("tool_call_completed")).tool_call_completed.result
        await chat.submit(approval_decision=decision(approval))
        (call,) = await chat.calls(1)
        await chat.result(call.call_id)
        await chat.finished()
    assert approval.tool_call.tool_name == call.tool_name == "mail"
    assert (refused.status, chat.kinds().count("approval_requested")) == (v1.ToolResult.STATUS_FAILED, 1)


async def test_nobody_decides_in_time(impatient: Service, model: MockServer) -> None:
    model.use([calls(WRITE_A), says("Then not.")])
    session_id = await impatient.new_session()
    async with impatient.chat(session_id) as chat, impatient.review() as reviewer:
        await chat.say("write")
        asked_for = (await chat.event("approval_requested")).approval_requested.approval
        resolved = (await chat.event("approval_resolved")).approval_resolved.approval
        assert (await chat.finished()).state == v1.TURN_STATE_COMPLETED
        await reviewer.until(
            lambda: any(one.state == v1.APPROVAL_STATE_EXPIRED for one in reviewer.all("approval")) or None,
            "the expiry",
        )
        late = await chat.submit(approval_decision=decision(asked_for))
    assert resolved.state == v1.APPROVAL_STATE_EXPIRED
    assert resolved.decided_by.kind == v1.ACTOR_KIND_SYSTEM
    assert dict(late.error.metadata)["state"] == "EXPIRED"
    result = (await chat.event("tool_call_completed")).tool_call_completed.result
    assert result.status == v1.ToolResult.STATUS_TIMED_OUT
    assert messages(model)[-1]["role"] == "tool"


async def test_approvals_are_read_and_decided_without_a_stream(service: Service, model: MockServer) -> None:
    model.use([calls(WRITE_A), says("Done.")])
    session_id = await service.new_session()
    async with service.chat(session_id) as chat:
        await chat.say("write")
        approval = (await chat.event("approval_requested")).approval_requested.approval
        own = v1.ApprovalFilter(session_ids=[session_id])
        listed = await service.hitl_service.ListApprovals(v1.ListApprovalsRequest(filter=own))
        read = await service.hitl_service.GetApproval(v1.GetApprovalRequest(approval_id=approval.approval_id))
        assert [one.approval_id for one in listed.approvals] == [read.approval.approval_id] == [approval.approval_id]
        request = v1.DecideApprovalRequest(request_id=f"d-{session_id}", decision=decision(approval))
        decided = (await service.hitl_service.DecideApproval(request)).approval
        again = (await service.hitl_service.DecideApproval(request)).approval
        request.request_id = f"e-{session_id}"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await service.hitl_service.DecideApproval(request)
        (call,) = await chat.calls(1)
        await chat.result(call.call_id)
        await chat.finished()
    assert decided.state == again.state == v1.APPROVAL_STATE_APPROVED
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(refused.value)[0] == "APPROVAL_ALREADY_RESOLVED"


async def test_a_claim_keeps_others_from_claiming_and_can_be_given_back(service: Service, model: MockServer) -> None:
    model.use([calls(WRITE_A), says("Done.")])
    session_id = await service.new_session()
    async with service.chat(session_id) as chat, service.review() as reviewer:
        await chat.say("write")
        approval = await reviewer.approval(session_id)
        await reviewer.submit(claim=v1.ApprovalClaim(approval_id=approval.approval_id))
        claimed = await reviewer.approval(session_id, revision=2)
        await reviewer.submit(release=v1.ApprovalRelease(approval_id=approval.approval_id))
        released = await reviewer.approval(session_id, revision=3)
        await reviewer.submit(decision=decision(approval, REJECT))
        await chat.finished()
    assert claimed.HasField("claim_expire_time")
    assert not released.HasField("claimant")


async def test_a_reviewer_resumes_with_its_token(service: Service, model: MockServer) -> None:
    model.use([calls(WRITE_A), says("Done.")])
    session_id = await service.new_session()
    own = v1.ApprovalFilter(session_ids=[session_id])
    async with service.chat(session_id) as chat:
        async with service.review(filter=own) as reviewer:
            await reviewer.frame("caught_up")
            token = next(frame.resume_token for frame in reviewer.frames if frame.resume_token)
        await chat.say("write")
        approval = (await chat.event("approval_requested")).approval_requested.approval
        await chat.submit(approval_decision=decision(approval, REJECT))
        await chat.finished()
        async with service.review(filter=own, resume_token=token) as reviewer:
            missed = await reviewer.approval(session_id)
            assert reviewer.all("welcome")[0].resumed
    assert missed.state == v1.APPROVAL_STATE_REJECTED


async def test_a_reviewer_who_leaves_in_the_middle_of_news_is_told_the_rest(
    service: Service, model: MockServer
) -> None:
    model.use([calls(WRITE_A, ("execute_command", {"command": "true"})), says("Done.")])
    session_id = await service.new_session()
    own = v1.ApprovalFilter(session_ids=[session_id])
    async with service.chat(session_id) as chat:
        async with service.review(filter=own) as reviewer:
            await reviewer.frame("caught_up")
            await chat.say("do both")
            await reviewer.frame("approval", 1)
            places = [(frame.resume_token, frame.approval.approval_id) for frame in reviewer.frames]
        (before,), (first, one), (_, other) = ([p for p in places if p[0] and not p[1]], *[p for p in places if p[1]])
        async with service.review(filter=own, resume_token=first or before[0]) as reviewer:
            await reviewer.frame("caught_up")
            assert other in {approval.approval_id for approval in reviewer.all("approval")}
    assert one != other

"""The decision on an approval, bound to exactly what was shown."""

import hashlib

from agent_runtime import v1


def decision_on(
    approval: v1.Approval,
    verdict: "v1.ApprovalVerdict.ValueType",
    edited_arguments_json: str = "",
    comment: str = "",
    scope: "v1.ApprovalScope.ValueType" = v1.APPROVAL_SCOPE_UNSPECIFIED,
) -> v1.ApprovalDecision:
    """Return the decision on `approval`, with the revision and the digest of the arguments as seen."""
    seen = approval.tool_call.arguments_json.encode()
    return v1.ApprovalDecision(
        approval_id=approval.approval_id,
        expected_revision=approval.revision,
        # Computed from the text that was shown, so a digest beside other text cannot be approved.
        arguments_sha256=hashlib.sha256(seen).hexdigest(),
        verdict=verdict,
        edited_arguments_json=edited_arguments_json,
        comment=comment,
        scope=scope,
    )

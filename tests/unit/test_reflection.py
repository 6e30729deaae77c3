"""What reflection knows."""

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2 as alpha

from agent_runtime_server.rpc.reflection import Index, Reflection

CHAT, HITL = "agent_runtime.v1.ChatService", "agent_runtime.v1.HitlService"
Request = alpha.ServerReflectionRequest
NOT_FOUND, INVALID_ARGUMENT = 5, 3


@pytest.fixture(scope="module")
def reflection() -> Reflection:
    return Reflection([CHAT, HITL])


def files(response: alpha.ServerReflectionResponse) -> list[str]:
    found = response.file_descriptor_response.file_descriptor_proto
    return [FileDescriptorProto.FromString(file).name for file in found]


def test_services_are_listed_with_both_of_reflection(reflection: Reflection) -> None:
    response = reflection.answer(Request(list_services=""))
    assert [service.name for service in response.list_services_response.service] == [
        CHAT,
        HITL,
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]


@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        ("agent_runtime.v1.ChatService", "agent_runtime/v1/chat_service.proto"),
        ("agent_runtime.v1.ChatService.Chat", "agent_runtime/v1/chat_service.proto"),
        ("agent_runtime.v1.HitlService.DecideApproval", "agent_runtime/v1/hitl_service.proto"),
        ("agent_runtime.v1.ChatHello", "agent_runtime/v1/chat_service.proto"),
        ("agent_runtime.v1.ChatHello.session_id", "agent_runtime/v1/chat_service.proto"),
        ("agent_runtime.v1.ChatRequest.frame", "agent_runtime/v1/chat_service.proto"),
        ("agent_runtime.v1.ToolResult.Status", "agent_runtime/v1/tool.proto"),
        ("agent_runtime.v1.ToolResult.STATUS_FAILED", "agent_runtime/v1/tool.proto"),
        ("agent_runtime.v1.RISK_LEVEL_HIGH", "agent_runtime/v1/tool.proto"),
        ("agent_runtime.v1.RiskLevel.RISK_LEVEL_HIGH", "agent_runtime/v1/tool.proto"),
        ("agent_runtime.v1.Session.LabelsEntry", "agent_runtime/v1/session.proto"),
        ("google.protobuf.Timestamp", "google/protobuf/timestamp.proto"),
        ("google.rpc.ErrorInfo", "google/rpc/error_details.proto"),
        ("grpc.reflection.v1.ServerReflection.ServerReflectionInfo", "grpc/reflection/v1/reflection.proto"),
        ("grpc.reflection.v1alpha.ExtensionRequest", "grpc_reflection/v1alpha/reflection.proto"),
    ],
)
def test_a_symbol_is_found_in_its_file(reflection: Reflection, symbol: str, file: str) -> None:
    assert files(reflection.answer(Request(file_containing_symbol=symbol)))[0] == file


def test_a_file_comes_with_all_it_imports(reflection: Reflection) -> None:
    found = files(reflection.answer(Request(file_by_filename="agent_runtime/v1/approval.proto")))
    assert found[0] == "agent_runtime/v1/approval.proto"
    assert {"agent_runtime/v1/common.proto", "agent_runtime/v1/tool.proto"} < set(found)
    assert {"google/protobuf/duration.proto", "google/protobuf/timestamp.proto"} < set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    "request_",
    [
        Request(file_by_filename="no.proto"),
        Request(file_containing_symbol="agent_runtime.v1.ChatService.Shout"),
        Request(file_containing_symbol=""),
        Request(file_containing_extension={"containing_type": "agent_runtime.v1.Part", "extension_number": 9}),
        Request(all_extension_numbers_of_type="agent_runtime.v1.Nothing"),
    ],
    ids=["file", "method", "empty symbol", "extension", "type"],
)
def test_what_is_unknown_is_not_found(reflection: Reflection, request_: alpha.ServerReflectionRequest) -> None:
    response = reflection.answer(request_)
    assert response.error_response.error_code == NOT_FOUND
    assert response.original_request == request_


def test_a_type_without_extensions_has_none(reflection: Reflection) -> None:
    response = reflection.answer(Request(all_extension_numbers_of_type="agent_runtime.v1.Part"))
    numbers = response.all_extension_numbers_response
    assert (numbers.base_type_name, list(numbers.extension_number)) == ("agent_runtime.v1.Part", [])


def test_extensions_are_found_by_what_they_extend() -> None:
    file = FileDescriptorProto(name="x.proto", package="x")
    file.message_type.add(name="Box")
    file.extension.add(name="lid", number=100, extendee=".x.Box")
    index = Index([file])
    assert index.extensions == {"x.Box": {100: "x.proto"}}
    assert index.symbols == {"x.Box": "x.proto", "x.lid": "x.proto"}


def test_nothing_asked_is_refused(reflection: Reflection) -> None:
    assert reflection.answer(Request(host="h")).error_response.error_code == INVALID_ARGUMENT

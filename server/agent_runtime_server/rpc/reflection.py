"""Server reflection, v1 and v1alpha: the same messages on the wire under two names.

Written here because the stock servicer knows v1alpha only and finds no methods.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2 as alpha

from agent_runtime_server.rpc.service import BadFrame, Call, handlers

ALPHA: Final = "grpc.reflection.v1alpha"
STABLE: Final = "grpc.reflection.v1"
SERVICES: Final = (f"{STABLE}.ServerReflection", f"{ALPHA}.ServerReflection")
"""Full names of the two reflection services."""

_IDLE_SECONDS: Final = 60.0
_INVALID_ARGUMENT, _NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


class Index:
    """Which file defines which name, over some files and all they import."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        self.files = {file.name: file for file in files}
        self.symbols: dict[str, str] = {}
        self.messages: set[str] = set()
        self.extensions: dict[str, dict[int, str]] = {}
        for file in self.files.values():
            self._add(file)

    def with_imports(self, name: str) -> list[FileDescriptorProto]:
        """Return the file and, after it, every file it needs."""
        needed = {name: self.files[name]}
        pending = [name]
        while pending:
            for dependency in self.files[pending.pop()].dependency:
                if dependency not in needed:
                    needed[dependency] = self.files[dependency]
                    pending.append(dependency)
        return list(needed.values())

    def _add(self, file: FileDescriptorProto) -> None:
        for symbol in _symbols(file):
            self.symbols[symbol] = file.name
        for name, message in _messages(file.message_type, file.package):
            self.messages.add(name)
            self._add_extensions(message, file.name)
        self._add_extensions(file, file.name)

    def _add_extensions(self, scope: FileDescriptorProto | DescriptorProto, file: str) -> None:
        for extension in scope.extension:
            self.extensions.setdefault(extension.extendee.lstrip("."), {})[extension.number] = file


class Reflection:
    """Answers what services, files and names there are."""

    def __init__(self, services: Iterable[str]) -> None:
        """Take the full names of the served services; the two of reflection itself are added."""
        self._services = sorted({*services, *SERVICES})
        pool = descriptor_pool.Default()
        # The error details are named by no file of the contract, but statuses carry them.
        roots = [alpha.DESCRIPTOR, error_details_pb2.DESCRIPTOR]
        roots += [pool.FindFileContainingSymbol(name) for name in services]
        self._index = Index([*_files(roots), _stable_file()])

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return the handlers of both versions."""
        stable = descriptor_pool.DescriptorPool()
        stable.Add(_stable_file())
        return handlers(stable.FindServiceByName(SERVICES[0]), self), handlers(SERVICES[1], self)

    async def server_reflection_info(
        self, requests: AsyncIterator[Any], _call: Call
    ) -> AsyncIterator[alpha.ServerReflectionResponse]:
        """Answer each request of a stream, until none comes for a while."""
        while (request := await _next(requests)) is not None:
            if isinstance(request, BadFrame):
                raise request.error
            # The messages of v1 are another type here, though not on the wire.
            yield self.answer(alpha.ServerReflectionRequest.FromString(request.SerializeToString()))

    def answer(self, request: alpha.ServerReflectionRequest) -> alpha.ServerReflectionResponse:
        """Return the answer to one request."""
        response = alpha.ServerReflectionResponse(valid_host=request.host, original_request=request)
        match request.WhichOneof("message_request"):
            case "list_services":
                names = [alpha.ServiceResponse(name=name) for name in self._services]
                response.list_services_response.service.extend(names)
            case "file_by_filename":
                self._add_file(response, request.file_by_filename)
            case "file_containing_symbol":
                name = self._index.symbols.get(request.file_containing_symbol.lstrip("."))
                self._add_file(response, name)
            case "file_containing_extension":
                wanted = request.file_containing_extension
                numbers = self._index.extensions.get(wanted.containing_type, {})
                self._add_file(response, numbers.get(wanted.extension_number))
            case "all_extension_numbers_of_type":
                self._add_extension_numbers(response, request.all_extension_numbers_of_type)
            case _:
                _refuse(response, _INVALID_ARGUMENT, "set one of the requests")
        return response

    def _add_file(self, response: alpha.ServerReflectionResponse, name: str | None) -> None:
        if name is None or name not in self._index.files:
            return _refuse(response, _NOT_FOUND, "no such file, symbol or extension")
        files = [file.SerializeToString() for file in self._index.with_imports(name)]
        response.file_descriptor_response.file_descriptor_proto.extend(files)
        return None

    def _add_extension_numbers(self, response: alpha.ServerReflectionResponse, name: str) -> None:
        if name not in self._index.messages:
            return _refuse(response, _NOT_FOUND, "no such message type")
        numbers = response.all_extension_numbers_response
        numbers.base_type_name = name
        numbers.extension_number.extend(sorted(self._index.extensions.get(name, {})))
        return None


async def _next(requests: AsyncIterator[Any]) -> Any:
    with suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(_IDLE_SECONDS):
            return await anext(requests)
    return None


def _refuse(response: alpha.ServerReflectionResponse, code: grpc.StatusCode, message: str) -> None:
    number: int = code.value[0]
    response.error_response.error_code = number
    response.error_response.error_message = message


def _files(roots: Iterable[Any]) -> Iterator[FileDescriptorProto]:
    seen: set[str] = set()
    pending = list(roots)
    while pending:
        file = pending.pop()
        if file.name not in seen:
            seen.add(file.name)
            pending.extend(file.dependencies)
            copy = FileDescriptorProto()
            file.CopyToProto(copy)
            _name_in_json(copy.message_type)
            yield copy


def _name_in_json(messages: Iterable[DescriptorProto]) -> None:
    """Fill in the JSON names, which Python's descriptors leave out and other languages go by."""
    for message in messages:
        for field in message.field:
            first, *rest = field.name.split("_")
            field.json_name = first + "".join(word[:1].upper() + word[1:] for word in rest)
        _name_in_json(message.nested_type)


def _stable_file() -> FileDescriptorProto:
    """Return the file of v1: that of v1alpha under the other name, no longer deprecated."""
    file = FileDescriptorProto()
    stable = FileDescriptorProto()
    alpha.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace("v1alpha", "v1")
    text_format.Parse(text, stable)
    stable.name = "grpc/reflection/v1/reflection.proto"
    stable.options.ClearField("deprecated")
    return stable


def _symbols(file: FileDescriptorProto) -> Iterator[str]:
    yield from _enum_symbols(file.enum_type, file.package)
    for name, message in _messages(file.message_type, file.package):
        yield name
        yield from (_join(name, field.name) for field in (*message.field, *message.extension))
        yield from (_join(name, oneof.name) for oneof in message.oneof_decl)
        yield from _enum_symbols(message.enum_type, name)
    for service in file.service:
        name = _join(file.package, service.name)
        yield name
        yield from (_join(name, method.name) for method in service.method)
    yield from (_join(file.package, extension.name) for extension in file.extension)


def _enum_symbols(enums: Iterable[EnumDescriptorProto], scope: str) -> Iterator[str]:
    for enum in enums:
        yield _join(scope, enum.name)
        # The values of an enum are its siblings, and many look for them below it.
        yield from (_join(scope, value.name) for value in enum.value)
        yield from (_join(_join(scope, enum.name), value.name) for value in enum.value)


def _messages(messages: Iterable[DescriptorProto], scope: str) -> Iterator[tuple[str, DescriptorProto]]:
    for message in messages:
        name = _join(scope, message.name)
        yield name, message
        yield from _messages(message.nested_type, name)


def _join(scope: str, name: str) -> str:
    return f"{scope}.{name}" if scope else name

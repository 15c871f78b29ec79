from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Report(_message.Message):
    __slots__ = ("announce", "withdraw", "heartbeat")
    ANNOUNCE_FIELD_NUMBER: _ClassVar[int]
    WITHDRAW_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    announce: Announce
    withdraw: Withdraw
    heartbeat: Heartbeat
    def __init__(self, announce: _Optional[_Union[Announce, _Mapping]] = ..., withdraw: _Optional[_Union[Withdraw, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class Announce(_message.Message):
    __slots__ = ("loop_id", "service_name", "instance", "pid", "host", "cell_path", "clock", "pid_namespace")
    LOOP_ID_FIELD_NUMBER: _ClassVar[int]
    SERVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    CELL_PATH_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    PID_NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    loop_id: int
    service_name: str
    instance: str
    pid: int
    host: str
    cell_path: str
    clock: str
    pid_namespace: int
    def __init__(self, loop_id: _Optional[int] = ..., service_name: _Optional[str] = ..., instance: _Optional[str] = ..., pid: _Optional[int] = ..., host: _Optional[str] = ..., cell_path: _Optional[str] = ..., clock: _Optional[str] = ..., pid_namespace: _Optional[int] = ...) -> None: ...

class Withdraw(_message.Message):
    __slots__ = ("loop_id",)
    LOOP_ID_FIELD_NUMBER: _ClassVar[int]
    loop_id: int
    def __init__(self, loop_id: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("monotonic_ns", "sequence", "loops")
    MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LOOPS_FIELD_NUMBER: _ClassVar[int]
    monotonic_ns: int
    sequence: int
    loops: _containers.RepeatedCompositeFieldContainer[Facts]
    def __init__(self, monotonic_ns: _Optional[int] = ..., sequence: _Optional[int] = ..., loops: _Optional[_Iterable[_Union[Facts, _Mapping]]] = ...) -> None: ...

class Facts(_message.Message):
    __slots__ = ("loop_id", "running", "beat", "heartbeat", "lateness", "ident", "slots", "stack")
    LOOP_ID_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    LATENESS_FIELD_NUMBER: _ClassVar[int]
    IDENT_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    loop_id: int
    running: int
    beat: int
    heartbeat: int
    lateness: int
    ident: int
    slots: _containers.RepeatedCompositeFieldContainer[Slot]
    stack: bytes
    def __init__(self, loop_id: _Optional[int] = ..., running: _Optional[int] = ..., beat: _Optional[int] = ..., heartbeat: _Optional[int] = ..., lateness: _Optional[int] = ..., ident: _Optional[int] = ..., slots: _Optional[_Iterable[_Union[Slot, _Mapping]]] = ..., stack: _Optional[bytes] = ...) -> None: ...

class Slot(_message.Message):
    __slots__ = ("slot", "tenant", "loop_ns", "slices", "longest_ns", "suffered_ns", "caused_ns", "waits")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    LOOP_NS_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    LONGEST_NS_FIELD_NUMBER: _ClassVar[int]
    SUFFERED_NS_FIELD_NUMBER: _ClassVar[int]
    CAUSED_NS_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    slot: int
    tenant: str
    loop_ns: int
    slices: int
    longest_ns: int
    suffered_ns: int
    caused_ns: int
    waits: int
    def __init__(self, slot: _Optional[int] = ..., tenant: _Optional[str] = ..., loop_ns: _Optional[int] = ..., slices: _Optional[int] = ..., longest_ns: _Optional[int] = ..., suffered_ns: _Optional[int] = ..., caused_ns: _Optional[int] = ..., waits: _Optional[int] = ...) -> None: ...

class Directive(_message.Message):
    __slots__ = ("leave_stacks", "relay")
    LEAVE_STACKS_FIELD_NUMBER: _ClassVar[int]
    RELAY_FIELD_NUMBER: _ClassVar[int]
    leave_stacks: LeaveStacks
    relay: Relay
    def __init__(self, leave_stacks: _Optional[_Union[LeaveStacks, _Mapping]] = ..., relay: _Optional[_Union[Relay, _Mapping]] = ...) -> None: ...

class Relay(_message.Message):
    __slots__ = ("loop_id", "stall_ns")
    LOOP_ID_FIELD_NUMBER: _ClassVar[int]
    STALL_NS_FIELD_NUMBER: _ClassVar[int]
    loop_id: int
    stall_ns: int
    def __init__(self, loop_id: _Optional[int] = ..., stall_ns: _Optional[int] = ...) -> None: ...

class LeaveStacks(_message.Message):
    __slots__ = ("stall_ns", "watchdog_pid")
    STALL_NS_FIELD_NUMBER: _ClassVar[int]
    WATCHDOG_PID_FIELD_NUMBER: _ClassVar[int]
    stall_ns: int
    watchdog_pid: int
    def __init__(self, stall_ns: _Optional[int] = ..., watchdog_pid: _Optional[int] = ...) -> None: ...

"""Workers and clients for Runcast: AI agents for people who are watching.

`Worker` serves agents: a plain function of a `Run` that yields what it says is one. `Client` asks for runs
and sees their events: in order, without gaps, each once, through reconnects and restarts of either side.
"""

from . import say
from ._agent import Agent, AgentFunction
from ._wire import Json, Token
from .client import Client
from .errors import (
    AgentError,
    ClosedError,
    InputExpired,
    OfflineError,
    RefusedError,
    ResetError,
    RuncastError,
    TooLargeError,
    UserChangedError,
)
from .events import Accepted, End, Event, EventName, Position, Reset, Status, Topic
from .run import Run, ToolUse
from .say import Done, Said
from .watch import RunHandle
from .worker import Worker

__all__ = [
    "Accepted",
    "Agent",
    "AgentError",
    "AgentFunction",
    "Client",
    "ClosedError",
    "Done",
    "End",
    "Event",
    "EventName",
    "InputExpired",
    "Json",
    "OfflineError",
    "Position",
    "RefusedError",
    "Reset",
    "ResetError",
    "Run",
    "RunHandle",
    "RuncastError",
    "Said",
    "Status",
    "Token",
    "TooLargeError",
    "ToolUse",
    "Topic",
    "UserChangedError",
    "Worker",
    "say",
]

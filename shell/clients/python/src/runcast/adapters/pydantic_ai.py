"""A Pydantic AI agent as an agent.

    worker.add("support", pydantic_ai.agent(support, deps=lambda run: Deps(run.user)), slots=4)

What the model writes becomes output and thinking; its tools become tool calls. Structured output is the run's
output as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from pydantic_ai import AgentRunResultEvent
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.messages import (
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    PartDeltaEvent,
    PartStartEvent,
    RetryPromptPart,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolReturnPart,
)
from pydantic_core import to_jsonable_python

from ..run import Run
from ..say import Done, Said, output, thinking, tool_completed, tool_executing

D = TypeVar("D")
PydanticAgent = Callable[[Run], AsyncIterator["Said | str | Done"]]


def agent(
    agent: AbstractAgent[D, Any],
    *,
    prompt: Callable[[Run], Any] = lambda run: run.text,
    deps: Callable[[Run], D] | None = None,
    options: Callable[[Run], dict[str, Any]] | None = None,
) -> PydanticAgent:
    """Makes an agent of a Pydantic AI agent.

    `prompt` makes the user's prompt of a run, `deps` the agent's dependencies, `options` whatever else its
    `run_stream_events` takes, such as a `message_history` that you keep for `run.thread`.
    """

    async def execute(run: Run) -> AsyncIterator[Said | str | Done]:
        more = options(run) if options is not None else {}
        if deps is not None:
            more = {"deps": deps(run), **more}
        async with agent.run_stream_events(prompt(run), **more) as events:
            async for event in events:
                if isinstance(event, AgentRunResultEvent):
                    yield _done(run, event)
                else:
                    for said in _said(event):
                        yield said

    return execute


def _done(run: Run, event: AgentRunResultEvent[Any]) -> Done:
    usage = to_jsonable_python(event.result.usage)
    made = event.result.output
    return Done({"text": made} if isinstance(made, str) else to_jsonable_python(made), usage)


def _said(event: object) -> Iterator[Said]:
    """One event in our words."""
    if isinstance(event, PartStartEvent):
        if isinstance(event.part, TextPart) and event.part.content:
            yield output(event.part.content)
        elif isinstance(event.part, ThinkingPart) and event.part.content:
            yield thinking(event.part.content)
    elif isinstance(event, PartDeltaEvent):
        if isinstance(event.delta, TextPartDelta) and event.delta.content_delta:
            yield output(event.delta.content_delta)
        elif isinstance(event.delta, ThinkingPartDelta) and event.delta.content_delta:
            yield thinking(event.delta.content_delta)
    elif isinstance(event, FunctionToolCallEvent):
        yield tool_executing(event.part.tool_call_id, event.part.tool_name, event.part.args_as_dict())
    elif isinstance(event, FunctionToolResultEvent):
        yield _tool_result(event.part)


def _tool_result(part: ToolReturnPart | RetryPromptPart) -> Said:
    if isinstance(part, RetryPromptPart):
        return tool_completed(part.tool_call_id, "error", error=part.model_response())
    if part.outcome == "success":
        return tool_completed(part.tool_call_id, result=to_jsonable_python(part.content))
    return tool_completed(part.tool_call_id, "error", error=f"{part.outcome}: {part.model_response_str()}")

"""An agent of the OpenAI Agents SDK as an agent.

    worker.add("triage", openai_agents.agent(triage), slots=4)

What the model writes becomes output and thinking; its tools become tool calls, its handoffs a `custom` event
`agent` with the new agent's name.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from agents import (
    Agent,
    AgentUpdatedStreamEvent,
    RawResponsesStreamEvent,
    Runner,
    RunResultStreaming,
    StreamEvent,
    ToolCallItem,
    ToolCallOutputItem,
)
from openai.types.responses import (
    ResponseReasoningSummaryTextDeltaEvent,
    ResponseReasoningTextDeltaEvent,
    ResponseTextDeltaEvent,
)
from pydantic_core import to_jsonable_python

from .._wire import Json
from ..run import Run
from ..say import Done, Said, custom, output, thinking, tool_completed, tool_executing

HOSTED = ("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call")
"""Tools that the model's provider executes; all others are the SDK's, which tells their outputs."""

OpenAIAgent = Callable[[Run], AsyncIterator["Said | str | Done"]]


def agent(
    agent: Agent[Any],
    *,
    input: Callable[[Run], Any] = lambda run: run.text,
    options: Callable[[Run], dict[str, Any]] | None = None,
) -> OpenAIAgent:
    """Makes an agent of an agent of the SDK.

    `input` makes its input of a run, `options` whatever else `Runner.run_streamed` takes: a `context`, a
    `session` that you keep for `run.thread`, a `run_config`.
    """

    async def execute(run: Run) -> AsyncIterator[Said | str | Done]:
        result = Runner.run_streamed(agent, input(run), **(options(run) if options is not None else {}))
        named = agent.name
        try:
            async for event in result.stream_events():
                if isinstance(event, AgentUpdatedStreamEvent) and event.new_agent.name != named:
                    named = event.new_agent.name
                    yield custom("agent", {"name": named})
                for said in _said(event):
                    yield said
        except BaseException:
            # The SDK's own task goes on otherwise.
            result.cancel()
            raise
        yield _done(result)

    return execute


def _done(result: RunResultStreaming) -> Done:
    made = result.final_output
    usage = result.context_wrapper.usage
    cost = {
        "requests": usage.requests,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }
    return Done({"text": made} if isinstance(made, str) else to_jsonable_python(made), cost)


def _said(event: StreamEvent) -> Iterator[Said]:
    """One event in our words."""
    if isinstance(event, RawResponsesStreamEvent):
        if isinstance(event.data, ResponseTextDeltaEvent):
            yield output(event.data.delta)
        elif isinstance(
            event.data, (ResponseReasoningTextDeltaEvent, ResponseReasoningSummaryTextDeltaEvent)
        ):
            yield thinking(event.data.delta)
    elif isinstance(event, AgentUpdatedStreamEvent):
        return
    elif isinstance(event.item, ToolCallItem):
        yield from _called(event.item)
    elif isinstance(event.item, ToolCallOutputItem):
        result = to_jsonable_python(event.item.output, fallback=str)
        yield tool_completed(event.item.call_id or "call", result=result)


def _called(item: ToolCallItem) -> Iterator[Said]:
    """A tool begins; one of the provider's is over when it is told, and no output of it follows."""
    kind = _field(item, "type")
    call = item.call_id or "call"
    yield tool_executing(call, item.tool_name or str(kind), _args(item))
    if kind not in HOSTED:
        return
    status, error = _field(item, "status"), _field(item, "error")
    if error is not None or status in ("failed", "incomplete"):
        yield tool_completed(call, "error", error=_words(error) or str(status))
    else:
        yield tool_completed(call, result=to_jsonable_python(_field(item, "output"), fallback=str))


def _field(item: ToolCallItem, name: str) -> Any:
    """What the model's provider says; of some tools as an object, of others as a mapping."""
    raw: Any = item.raw_item
    return raw.get(name) if isinstance(raw, dict) else getattr(raw, name, None)


def _words(error: Any) -> str:
    if error is None or isinstance(error, str):
        return error or ""
    return str(getattr(error, "message", None) or to_jsonable_python(error, fallback=str))


def _args(item: ToolCallItem) -> Json:
    """A function's arguments come as the text that the model wrote."""
    arguments = _field(item, "arguments")
    if not isinstance(arguments, str):
        return {}
    try:
        return json.loads(arguments)
    except ValueError:
        return {"text": arguments}

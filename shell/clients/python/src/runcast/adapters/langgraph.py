"""Any compiled LangGraph graph as an agent.

    worker.add("research", langgraph.agent(graph), slots=4)

What models write becomes output and thinking; tools and nodes become tool calls and steps; `interrupt()` asks
the user (the graph then needs a checkpointer). The thread is the graph's `thread_id`, in its user's own
namespace.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.schema import StreamEvent
from langgraph.errors import GraphBubbleUp
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Interrupt

from .._wire import Json
from ..run import Run
from ..say import Done, Said, output, step_completed, step_started, thinking, tool_completed, tool_executing

Graph = CompiledStateGraph[Any, Any, Any, Any]
GraphAgent = Callable[[Run], AsyncIterator["Said | str | Done"]]


def agent(
    graph: Graph,
    *,
    input: Callable[[Run], Any] | None = None,
    config: Callable[[Run], RunnableConfig] | None = None,
    result: Callable[[Any], Json] | None = None,
) -> GraphAgent:
    """Makes an agent of a compiled graph.

    `input` makes the graph's input of a run: an object as it is, words as the first of `messages`. `config`
    adds to the graph's configuration. `result` makes the run's output of the last state: the text of the last
    of `messages`, or the state.
    """

    async def execute(run: Run) -> AsyncIterator[Said | str | Done]:
        given: Any = (input or _input)(run)
        wanted = _config(run, config(run) if config is not None else {})
        usage: UsageMetadata | None = None
        while True:
            heard = _Heard()
            async for event in graph.astream_events(given, wanted, version="v2"):
                for said in heard.said(event):
                    yield said
            if heard.usage is not None:
                usage = add_usage(usage, heard.usage)
                run.usage = dict(usage)
            for said in heard.left_open():
                yield said
            if not heard.interrupts:
                break
            answers = await asyncio.gather(*(_ask(run, interrupt) for interrupt in heard.interrupts))
            given = Command(resume=dict(answers))
        made = (result or _result)(heard.state)
        if not run.said and isinstance(made, dict) and isinstance(made.get("text"), str):
            yield output(made["text"])
        yield Done(made)

    return execute


class _Heard:
    """What the events of one pass through the graph say."""

    def __init__(self) -> None:
        self.usage: UsageMetadata | None = None
        self.interrupts: tuple[Interrupt, ...] = ()
        self.state: Any = None
        self._streamed: set[str] = set()
        self._steps: dict[str, None] = {}
        """Nodes that have begun and not ended, in that order."""

    def said(self, event: StreamEvent) -> Iterator[Said]:
        """One event in our words."""
        kind, name, run_id, data = event["event"], event["name"], event["run_id"], event["data"]
        is_node = event.get("metadata", {}).get("langgraph_node") == name
        if kind == "on_chat_model_stream":
            self._streamed.add(run_id)
            yield from _words(data["chunk"])
        elif kind == "on_chat_model_end":
            message = data["output"]
            self.usage = add_usage(self.usage, getattr(message, "usage_metadata", None))
            if run_id not in self._streamed:
                yield from _words(message)
        elif kind == "on_tool_start":
            yield tool_executing(run_id, name, data.get("input"))
        elif kind == "on_tool_end":
            yield _tool_result(run_id, data.get("output"))
        elif kind == "on_tool_error":
            yield _tool_failure(run_id, data.get("error"))
        elif kind == "on_chain_start" and is_node:
            self._steps[run_id] = None
            yield step_started(run_id, name=name, index=event["metadata"].get("langgraph_step"))
        elif kind == "on_chain_end" and is_node:
            self._steps.pop(run_id, None)
            yield step_completed(run_id)
        elif not event["parent_ids"]:
            self._root(kind, data)

    def left_open(self) -> Iterator[Said]:
        """Of a node that asks no end is told; it begins anew with the answer."""
        for step in reversed(self._steps):
            yield step_completed(step, "interrupted")

    def _root(self, kind: str, data: Mapping[str, Any]) -> None:
        chunk = data.get("chunk")
        if kind == "on_chain_stream" and isinstance(chunk, dict) and "__interrupt__" in chunk:
            self.interrupts += tuple(chunk["__interrupt__"])
        elif kind == "on_chain_end":
            self.state = data.get("output")


def _words(message: BaseMessage) -> Iterator[Said]:
    """What a model wrote, by the framework's own blocks."""
    for block in message.content_blocks:
        if block["type"] == "text" and block["text"]:
            yield output(block["text"])
        elif block["type"] == "reasoning" and block.get("reasoning"):
            yield thinking(block["reasoning"])


def _tool_result(call: str, made: Any) -> Said:
    if not isinstance(made, ToolMessage):
        return tool_completed(call, result=made)
    if made.status == "error":
        return tool_completed(call, "error", error=made.text)
    return tool_completed(call, result=made.content)


def _tool_failure(call: str, error: Any) -> Said:
    if isinstance(error, GraphBubbleUp):
        # The graph's own way to stop for a question: the tool has not failed, and is called again.
        return tool_completed(call, "interrupted")
    words = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
    return tool_completed(call, "error", error=words)


async def _ask(run: Run, interrupt: Interrupt) -> tuple[str, Json]:
    value = interrupt.value
    prompt = value if isinstance(value, str) else None
    given = await run.ask(prompt or str(value), schema=None if prompt else {"interrupt": value})
    return interrupt.id, given


def _input(run: Run) -> Any:
    if isinstance(run.input, dict) and "text" not in run.input:
        return run.input
    return {"messages": [("user", run.text)]}


def _config(run: Run, config: RunnableConfig) -> RunnableConfig:
    own = {"thread_id": f"{run.user}/{run.thread}"}
    return {**config, "configurable": {**own, **config.get("configurable", {})}}


def _result(state: Any) -> Json:
    messages = state.get("messages") if isinstance(state, dict) else None
    if isinstance(messages, list) and messages and isinstance(messages[-1], AIMessage):
        return {"text": messages[-1].text}
    return state

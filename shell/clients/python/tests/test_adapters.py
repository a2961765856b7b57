"""Agents of real frameworks as workers of a real daemon; only their models are the frameworks' own fakes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypedDict

import pytest
from agents import Agent as OpenAIAgent
from agents import RunConfig, function_tool
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool as langchain_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionWebSearch,
    ResponseOutputMessage,
    ResponseOutputText,
)
from openai.types.responses.response_function_web_search import ActionSearch
from openai.types.responses.response_output_item import McpCall
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai import ModelRetry
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel

from daemon import Daemon
from runcast import AgentFunction, Client, End, Event, Worker
from runcast.adapters import langgraph, openai_agents, pydantic_ai
from test_end_to_end import serving


async def executed(daemon: Daemon, agent: AgentFunction, asked: Any = "hi") -> tuple[list[Event], End]:
    """One run of an agent: what the worker said, and the end."""
    worker = Worker(daemon.url, daemon.token("crew", "worker"))
    worker.add("a", agent)
    async with serving(worker), Client(daemon.url, daemon.token("alice", "user")) as client:
        run = client.run("a", asked)
        events = [event async for event in run]
        return events[2:-1], await run


def brief(events: list[Event]) -> list[Any]:
    """What matters of each event, steps left out."""
    said = []
    for event in events:
        data = event.data
        if event.event in ("agent_output", "agent_thinking"):
            said.append((event.event[6:], data["delta"]))
        elif event.event == "tool_executing":
            said.append((data["tool"], data["args"]))
        elif event.event == "tool_completed":
            said.append((data["status"], data.get("result", data.get("error", {}).get("message"))))
    return said


@langchain_tool
async def search(q: str) -> str:
    """Searches."""
    return f"found {q}"


@langchain_tool
async def broken(q: str) -> str:
    """Fails."""
    raise ValueError(f"no {q}")


def graph_of(model: Any, *, handle_tool_errors: bool = True) -> Any:
    async def call(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", call)
    graph.add_node("tools", ToolNode([search, broken], handle_tool_errors=handle_tool_errors))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile()


class State(TypedDict):
    """Of a graph that is no conversation."""

    x: int


def calls(name: str, **args: Any) -> AIMessage:
    return AIMessage(content="", tool_calls=[{"name": name, "args": args, "id": f"call_{name}"}])


async def test_a_langgraph_graph_with_tools(daemon: Daemon) -> None:
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    content = [{"type": "reasoning", "reasoning": "Hm"}, {"type": "text", "text": "Found it"}]
    answers: list[Any] = [
        calls("search", q="x"),
        calls("broken", q="y"),
        AIMessage(content=content, usage_metadata=usage),  # type: ignore[arg-type]
    ]
    graph = graph_of(FakeMessagesListChatModel(responses=answers))
    events, end = await executed(daemon, langgraph.agent(graph))
    assert brief(events) == [
        ("search", {"q": "x"}),
        ("ok", "found x"),
        ("broken", {"q": "y"}),
        ("error", "ValueError: no y"),
        ("thinking", "Hm"),
        ("output", "Found it"),
    ]
    steps = [event.data.get("name") for event in events if event.event == "step_started"]
    assert steps == ["model", "tools", "model", "tools", "model"]
    assert sum(event.event == "step_completed" for event in events) == 5
    assert (end.status, end.output) == ("ok", {"text": "Found it"})
    assert end.usage is not None
    assert end.usage["total_tokens"] == 7


async def test_a_langgraph_model_is_streamed_word_by_word(daemon: Daemon) -> None:
    model = GenericFakeChatModel(messages=iter([AIMessage(content="It is here")]))
    events, end = await executed(daemon, langgraph.agent(graph_of(model)))
    deltas = [event.delta for event in events if event.event == "agent_output"]
    assert deltas == ["It", " ", "is", " ", "here"]
    assert end.output == {"text": "It is here"}


async def test_a_langgraph_graph_that_fails(daemon: Daemon) -> None:
    graph = graph_of(FakeMessagesListChatModel(responses=[calls("broken", q="y")]), handle_tool_errors=False)
    events, end = await executed(daemon, langgraph.agent(graph))
    assert brief(events) == [("broken", {"q": "y"}), ("error", "ValueError: no y")]
    assert end.status == "error"


async def test_a_langgraph_graph_without_messages(daemon: Daemon) -> None:
    def double(state: State) -> State:
        return {"x": state["x"] * 2}

    graph = StateGraph(State)
    graph.add_node("double", double)
    graph.add_edge(START, "double")
    _, end = await executed(daemon, langgraph.agent(graph.compile()), {"x": 21})
    assert end.output == {"x": 42}


async def test_a_langgraph_interrupt_asks_the_user(daemon: Daemon) -> None:
    def choose(state: State) -> State:
        return {"x": interrupt("Which number?")}

    graph = StateGraph(State)
    graph.add_node("choose", choose)
    graph.add_edge(START, "choose")
    worker = Worker(daemon.url, daemon.token("crew", "worker"))
    worker.add("a", langgraph.agent(graph.compile(checkpointer=InMemorySaver())))
    async with serving(worker), Client(daemon.url, daemon.token("alice", "user")) as client:
        run = client.run("a", {"x": 0})
        async for event in run:
            if event.event == "input_required":
                assert event.data["prompt"] == "Which number?"
                await run.input(7, request=event.data["request"])
        assert (await run).output == {"x": 7}


async def test_a_langgraph_tool_that_asks_the_user_has_not_failed(daemon: Daemon) -> None:
    @langchain_tool
    async def buy(what: str) -> str:
        """Buys."""
        return f"bought {what}: {interrupt('Sure?')}"

    async def call(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    answers: list[Any] = [calls("buy", what="tea"), AIMessage(content="There")]
    model = FakeMessagesListChatModel(responses=answers)
    graph = StateGraph(MessagesState)
    graph.add_node("model", call)
    graph.add_node("tools", ToolNode([buy]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    worker = Worker(daemon.url, daemon.token("crew", "worker"))
    worker.add("a", langgraph.agent(graph.compile(checkpointer=InMemorySaver())))
    async with serving(worker), Client(daemon.url, daemon.token("alice", "user")) as client:
        run = client.run("a", "tea")
        events = []
        async for event in run:
            events.append(event)
            if event.event == "input_required":
                await run.input("yes", request=event.data["request"])
    said = [(kind, what) for kind, what in brief(events) if kind != "output"]
    assert said == [
        ("buy", {"what": "tea"}),
        ("interrupted", None),
        ("buy", {"what": "tea"}),
        ("ok", "bought tea: yes"),
    ]
    asked = next(n for n, event in enumerate(events) if event.event == "input_required")
    for part in (events[:asked], events[asked:]):
        begun = [event.data["step"] for event in part if event.event == "step_started"]
        assert begun == [event.data["step"] for event in part if event.event == "step_completed"]


def pydantic_agent() -> PydanticAgent[None, str]:
    turns = 0

    async def stream(_messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[Any]:
        nonlocal turns
        turns += 1
        if turns == 1:
            yield {0: DeltaThinkingPart(content="Let me ")}
            yield {0: DeltaThinkingPart(content="look")}
            yield {1: DeltaToolCall(name="search", json_args='{"q":', tool_call_id="c1")}
            yield {1: DeltaToolCall(json_args='"x"}')}
        elif turns == 2:
            yield {0: DeltaToolCall(name="broken", json_args='{"q":"y"}', tool_call_id="c2")}
        else:
            yield "It is "
            yield "found"

    agent = PydanticAgent(FunctionModel(stream_function=stream))

    @agent.tool_plain
    def search(q: str) -> str:
        return f"found {q}"

    @agent.tool_plain
    def broken(q: str) -> str:
        raise ModelRetry(f"no {q}")

    return agent


async def test_a_pydantic_ai_agent_with_tools(daemon: Daemon) -> None:
    events, end = await executed(daemon, pydantic_ai.agent(pydantic_agent()))
    said = brief(events)
    assert said[:5] == [
        ("thinking", "Let me "),
        ("thinking", "look"),
        ("search", {"q": "x"}),
        ("ok", "found x"),
        ("broken", {"q": "y"}),
    ]
    assert said[5][0] == "error"
    assert "no y" in said[5][1]
    assert said[6:] == [("output", "It is "), ("output", "found")]
    assert (end.status, end.output) == ("ok", {"text": "It is found"})
    assert end.usage is not None
    assert end.usage["tool_calls"] == 1


async def test_a_pydantic_ai_agent_with_structured_output(daemon: Daemon) -> None:
    agent = PydanticAgent(TestModel(custom_output_args={"a": 1}), output_type=dict[str, int])
    _, end = await executed(daemon, pydantic_ai.agent(agent))
    assert end.output == {"a": 1}


async def test_a_pydantic_ai_agent_that_fails(daemon: Daemon) -> None:
    agent = PydanticAgent(TestModel(call_tools=["broken"]))

    @agent.tool_plain
    def broken() -> str:
        raise ValueError("no such thing")

    events, end = await executed(daemon, pydantic_ai.agent(agent))
    assert end.status == "error"
    assert [said[0] for said in brief(events)] == ["broken", "interrupted"]


@function_tool(name_override="search")
def openai_search(q: str) -> str:
    """Searches."""
    return f"found {q}"


def offline(_: Any) -> dict[str, Any]:
    return {"run_config": RunConfig(tracing_disabled=True)}


async def test_an_openai_agent_with_tools(daemon: Daemon) -> None:
    model = ScriptedModel(
        [[function_call("search", {"q": "x"}, call_id="c1")], [assistant_message("It is found")]]
    )
    agent = OpenAIAgent("finder", model=model, tools=[openai_search])
    events, end = await executed(daemon, openai_agents.agent(agent, options=offline))
    said = brief(events)
    assert said[:2] == [("search", {"q": "x"}), ("ok", "found x")]
    assert "".join(text for kind, text in said[2:] if kind == "output") == "It is found"
    assert (end.status, end.output) == ("ok", {"text": "It is found"})
    assert end.usage is not None
    assert end.usage["requests"] == 2


async def test_what_the_models_own_side_did_is_done(daemon: Daemon) -> None:
    found = ActionSearch(type="search", query="x")
    searched = ResponseFunctionWebSearch(id="ws_1", action=found, status="completed", type="web_search_call")
    failed = McpCall(
        id="mcp_1", arguments='{"q":"y"}', name="look", server_label="s", type="mcp_call", status="failed"
    )
    text = ResponseOutputText(annotations=[], text="It is found", type="output_text")
    said = ResponseOutputMessage(
        id="m_1", content=[text], role="assistant", status="completed", type="message"
    )
    looked = failed.model_copy(update={"id": "mcp_2", "status": "completed", "output": "here"})
    response = Response(
        id="r", created_at=1, model="m", object="response", output=[searched, failed, looked, said],
        parallel_tool_calls=False, tool_choice="auto", tools=[],
    )  # fmt: skip
    completed = ResponseCompletedEvent(type="response.completed", response=response, sequence_number=1)
    agent = OpenAIAgent("finder", model=ScriptedModel([ModelStep.stream([completed])]))
    events, end = await executed(daemon, openai_agents.agent(agent, options=offline))
    assert brief(events) == [
        ("web_search_call", {}),
        ("ok", None),
        ("look", {"q": "y"}),
        ("error", "failed"),
        ("look", {"q": "y"}),
        ("ok", "here"),
    ]
    assert end.output == {"text": "It is found"}


async def test_an_openai_agent_that_hands_over(daemon: Daemon) -> None:
    second = OpenAIAgent("second", model=ScriptedModel([[assistant_message("Hello")]]))
    handing = ScriptedModel([[function_call("transfer_to_second", {}, call_id="c1")]])
    first = OpenAIAgent("first", model=handing, handoffs=[second])
    events, end = await executed(daemon, openai_agents.agent(first, options=offline))
    assert [event.data["value"] for event in events if event.event == "custom"] == [{"name": "second"}]
    assert end.output == {"text": "Hello"}


async def test_an_openai_agent_that_fails(daemon: Daemon) -> None:
    agent = OpenAIAgent("finder", model=ScriptedModel([{"error": ValueError("no such thing")}]))
    _, end = await executed(daemon, openai_agents.agent(agent, options=offline))
    assert end.status == "error"
    assert end.error is not None
    assert end.error["code"] == "agent_failed"


@pytest.mark.parametrize("framework", ["langgraph", "pydantic_ai", "openai_agents"])
async def test_a_kill_of_the_daemon_loses_nothing_of_any(daemon: Daemon, framework: str) -> None:
    """The tool that is used kills the daemon; the framework does not notice."""
    script: list[Any] = [[function_call("kill", {}, call_id="c1")], [assistant_message("It lives")]]
    if framework == "openai_agents":

        @function_tool
        def kill() -> str:
            """Kills."""
            daemon.kill()
            daemon.start()
            return "killed"

        scripted = OpenAIAgent("killer", model=ScriptedModel(script), tools=[kill])
        agent: AgentFunction = openai_agents.agent(scripted, options=offline)
    elif framework == "pydantic_ai":
        tested = PydanticAgent(TestModel(custom_output_text="It lives"))

        @tested.tool_plain(name="kill")
        def kill_too() -> str:
            daemon.kill()
            daemon.start()
            return "killed"

        agent = pydantic_ai.agent(tested)
    else:

        @langchain_tool("search")
        def kill_as_well(q: str) -> str:
            """Kills."""
            daemon.kill()
            daemon.start()
            return "killed"

        graph = StateGraph(MessagesState)
        answers: list[Any] = [calls("search", q="x"), AIMessage(content="It lives")]
        model = FakeMessagesListChatModel(responses=answers)

        async def call(state: MessagesState) -> dict[str, Any]:
            return {"messages": [await model.ainvoke(state["messages"])]}

        graph.add_node("model", call)
        graph.add_node("tools", ToolNode([kill_as_well]))
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", tools_condition)
        graph.add_edge("tools", "model")
        agent = langgraph.agent(graph.compile())
    events, end = await executed(daemon, agent)
    assert (end.status, end.output) == ("ok", {"text": "It lives"})
    assert [event.data["result"] for event in events if event.event == "tool_completed"] == ["killed"]
    assert [event.seq for event in events] == list(range(3, 3 + len(events)))

"""The same agent as a LangGraph graph with a tool node. (pip install 'runcast[langgraph]')

The planner is plain code, so that it runs without a model; put a chat model with tools in its place.
RUNCAST_URL=ws://127.0.0.1:8787 RUNCAST_TOKEN=… python examples/langgraph_worker.py
"""

import asyncio
import os

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from runcast import Worker
from runcast.adapters import langgraph


@tool
async def measure(word: str) -> int:
    """How long a word is."""
    await asyncio.sleep(0.05)
    return len(word)


def plan(state: MessagesState) -> MessagesState:
    """One word after the other, as a model would; then the answer."""
    words = str(state["messages"][0].content).split()
    measured = [int(m.text) for m in state["messages"] if isinstance(m, ToolMessage)]
    if len(measured) < len(words):
        call = {"name": "measure", "args": {"word": words[len(measured)]}, "id": f"call_{len(measured)}"}
        return {"messages": [AIMessage("", tool_calls=[call])]}
    return {"messages": [AIMessage(f"The longest is {words[measured.index(max(measured))]}")]}


graph = StateGraph(MessagesState)
graph.add_node("plan", plan)
graph.add_node("tools", ToolNode([measure]))
graph.add_edge(START, "plan")
graph.add_conditional_edges("plan", tools_condition)
graph.add_edge("tools", "plan")

worker = Worker(os.environ.get("RUNCAST_URL", "ws://127.0.0.1:8787"), os.environ["RUNCAST_TOKEN"])
worker.add("longest", langgraph.agent(graph.compile()), slots=4)

if __name__ == "__main__":
    worker.run()

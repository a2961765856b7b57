"""A worker with tools: finds the longest of the words that it is asked about, looking at each.

RUNCAST_URL=ws://127.0.0.1:8787 RUNCAST_TOKEN=… python examples/tools_worker.py
"""

import asyncio
import os
from collections.abc import AsyncIterator

from runcast import Run, Worker

worker = Worker(os.environ.get("RUNCAST_URL", "ws://127.0.0.1:8787"), os.environ["RUNCAST_TOKEN"])


async def measure(word: str) -> int:
    await asyncio.sleep(0.05)
    return len(word)


@worker.agent("longest", slots=4)
async def longest(run: Run) -> AsyncIterator[str]:
    await run.thinking(f"I look at each word of {run.text!r}.")
    lengths: dict[str, int] = {}
    for word in run.text.split():
        async with run.tool("measure", {"word": word}) as use:
            use.result = lengths[word] = await measure(word)
    for word in ("The", "longest", "is", max(lengths, key=lengths.__getitem__)):
        yield f"{word} "


if __name__ == "__main__":
    worker.run()

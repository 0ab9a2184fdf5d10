"""Test equipment, loaded only by the end-to-end tests.

IRC has no pictures, and its adapter never loses its guard. A line that begins with one of these words stands for that:

- `@photo CAPTION`: a message with a picture, with or without a caption;
- `@album NAME CAPTION`: a picture of a series;
- `@empty`: a message without text;
- `@unguarded TEXT`: the text arrives while the adapter does not know that the session is busy (the runner does);
- `@unaddressed TEXT`: the text is not for the agent.

And it writes down, many times a second, which sessions have a run, so that tests can wait for that.
"""

import asyncio
import dataclasses
import json
import os


async def write_sessions(adapter):
    path = os.path.join(os.environ["LAB_SCRATCH"], "sessions.json")
    before = None
    while True:
        module = __import__("sys").modules.get("gateway.run")
        runner = module._gateway_runner_ref() if module else None
        running = dict(getattr(runner, "_running_agents", {}))
        sessions = {key: "running" if hasattr(agent, "steer") else "starting" for key, agent in running.items()}
        for key in list(adapter._active_sessions):
            sessions.setdefault(key, "edge")
        now = json.dumps(sessions)
        if now != before:
            with open(path + ".new", "w") as file:
                file.write(now)
            os.replace(path + ".new", path)
            before = now
        await asyncio.sleep(0.01)


def register(ctx):
    from gateway.platforms.base import BasePlatformAdapter, MessageType, build_session_key

    watchers = []

    original = BasePlatformAdapter.handle_message

    async def handle_message(self, event):
        if not watchers:
            watchers.append(asyncio.get_running_loop().create_task(write_sessions(self)))
        word, _, rest = (event.text or "").partition(" ")
        if word in ("@photo", "@album"):
            picture = os.path.join(os.environ["LAB_SCRATCH"], "picture.png")
            metadata = {}
            if word == "@album":
                name, _, rest = rest.partition(" ")
                metadata = {"media_group_id": name}
            event = dataclasses.replace(
                event,
                text=rest,
                message_type=MessageType.PHOTO,
                media_urls=[picture],
                media_types=["image/png"],
                metadata=metadata,
            )
        elif word == "@empty":
            event = dataclasses.replace(event, text="")
        elif word == "@unaddressed":
            event = dataclasses.replace(event, text=rest, metadata={"addressed": False})
        elif word == "@unguarded":
            event = dataclasses.replace(event, text=rest)
            key = build_session_key(event.source)
            guard = self._active_sessions.pop(key, None)
            try:
                # What `handle_message` would do for a session that it takes for idle, without its own bookkeeping.
                await self._message_handler(event)
            finally:
                if guard is not None:
                    self._active_sessions.setdefault(key, guard)
            return
        await original(self, event)

    BasePlatformAdapter.handle_message = handle_message

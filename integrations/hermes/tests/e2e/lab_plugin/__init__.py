"""Test equipment, loaded only by the end-to-end tests.

IRC has no pictures, and its adapter never loses its guard. A line that begins with one of these words stands for that:

- `@photo CAPTION`: a message with a picture, with or without a caption;
- `@album NAME CAPTION`: a picture of a series;
- `@empty`: a message without text;
- `@unguarded TEXT`: the text arrives while the adapter does not know that the session is busy (the runner does);
- `@unaddressed TEXT`: the text is not for the agent.

And it tells whoever asks which sessions have a run, so that tests can wait for that, and lets a chat be slow to confirm
what is sent to it: as long as there is a file `slow-CHAT`.
"""

import asyncio
import dataclasses
import json
import os


def sessions(adapter):
    """As they are now: `starting` or `running`, or `edge` before and after that."""
    module = __import__("sys").modules.get("gateway.run")
    runner = module._gateway_runner_ref() if module else None
    running = dict(getattr(runner, "_running_agents", {}))
    found = {key: "running" if hasattr(agent, "steer") else "starting" for key, agent in running.items()}
    for key in list(adapter._active_sessions):
        found.setdefault(key, "edge")
    return found


async def tell_sessions(adapter, scratch):
    """One answer a connection. The port is written down."""

    async def tell(reader, writer):
        writer.write(json.dumps(sessions(adapter)).encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(tell, "127.0.0.1", 0)
    path = os.path.join(scratch, "sessions.port")
    with open(path + ".new", "w") as file:
        file.write(str(server.sockets[0].getsockname()[1]))
    os.replace(path + ".new", path)
    return server


def confirm_slowly(adapter, scratch):
    send = adapter.send

    def is_slow(chat_id):
        return os.path.exists(os.path.join(scratch, f"slow-{chat_id}"))

    async def send_slowly(chat_id, *args, **kwargs):
        slow = is_slow(chat_id)
        result = await send(chat_id, *args, **kwargs)
        while slow and is_slow(chat_id):
            await asyncio.sleep(0.01)
        return result

    adapter.send = send_slowly


def register(ctx):
    from gateway.platforms.base import BasePlatformAdapter, MessageType, build_session_key

    scratch = os.environ["LAB_SCRATCH"]
    servers = []
    original = BasePlatformAdapter.handle_message

    async def handle_message(self, event):
        if not servers:
            servers.append(None)
            confirm_slowly(self, scratch)
            servers.append(await tell_sessions(self, scratch))
        word, _, rest = (event.text or "").partition(" ")
        if word in ("@photo", "@album"):
            picture = os.path.join(scratch, "picture.png")
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

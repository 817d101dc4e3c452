"""An agent of another program's that is asked for services by JSON messages,
written from what such programs do on the wire.

    async with JsonAgent(d, token, {"/a": handler}) as agent: ...

A handler is a coroutine called with (agent, request): request is the payload
of a proxy_request with its "id".  What follows for that request (pieces of
its body, WebSocket data, cancel, close) is in the queue request["more"].
"""

import asyncio
import base64
import gzip
import json
import struct

import websockets

TODAY = {"supports_streaming": True, "supports_binary_protocol": True,
         "supports_compression": True, "supports_websocket_proxy": True,
         "supports_gateway": False, "supports_response_streaming": True}
# v0.0.50: whole answers alone.
OLD = {"supports_websocket_proxy": True}
STAMP = "2025-10-16T12:00:00.123456789Z"


def b64(data):
    return base64.b64encode(data).decode()


class JsonAgent:
    def __init__(self, d, token, handlers=None, features=None, agent_id="edge-1"):
        self.d, self.token, self.agent_id = d, token, agent_id
        self.handlers = handlers or {}
        self.features = TODAY if features is None else features
        self.seen = []       # all that came, in order
        self.requests = {}   # by id
        self.tasks = []
        self.unknown = set()  # types that it does not know
        self.silent = False   # reads no more

    async def __aenter__(self):
        self.ws = await websockets.connect(
            self.d.ws_url, extra_headers={"Authorization": "Bearer " + self.token},
            ping_interval=None, max_size=None, compression=None)
        await self.say("register", None, request_id="req_1", agent_id=self.agent_id,
                       name=self.agent_id, features=self.features)
        while (await self.read())["type"] != "register_success":
            pass
        self.reader = asyncio.ensure_future(self.serve())
        return self

    async def __aexit__(self, *unused):
        self.reader.cancel()
        for task in self.tasks:
            task.cancel()
        await self.ws.close()

    async def read(self):
        m = json.loads(await self.ws.recv())
        self.seen.append(m)
        return m

    async def serve(self):
        try:
            while True:
                self.on_message(await self.read())
        except websockets.ConnectionClosed:
            pass

    def on_message(self, m):
        kind, payload = m["type"], m["payload"]
        if kind in self.unknown:
            self.unknown.discard(kind)
            self.later(self.say("protocol_fallback", None, unknown_type=kind,
                                supported_types=["proxy_request"], fallback_mode="legacy_proxy",
                                protocol_version="1.0", original_request_id=m.get("request_id")))
        elif kind == "proxy_request":
            r = dict(payload, id=m["request_id"], more=asyncio.Queue())
            self.requests[r["id"]] = r
            if r["path"] in self.handlers:
                self.later(self.handlers[r["path"]](self, r))
        elif m.get("request_id") in self.requests:
            self.requests[m["request_id"]]["more"].put_nowait(m)

    def later(self, work):
        self.tasks.append(asyncio.ensure_future(work))

    async def say(self, kind, ident, request_id=None, **payload):
        await self.send({"type": kind, "request_id": ident or request_id or "",
                         "payload": payload, "timestamp": STAMP})

    async def send(self, message):
        await self.ws.send(json.dumps(message))

    async def frame(self, ident, status, headers, body):
        """A whole answer as one binary message."""
        head = json.dumps(headers).encode()
        await self.ws.send(struct.pack(">H", len(ident)) + ident.encode() +
                           struct.pack(">II", status, len(head)) + head + body)

    async def data(self, ident, kind, data, name="proxy_websocket_data", **more):
        await self.say(name, ident, request_id=ident, stream_id=ident, message_type=kind,
                       data=b64(bytes([kind]) + data), **more)


def whole(status=200, headers=None, body=b"", encoding="base64"):
    """Answers with one proxy_response."""
    async def handler(agent, r):
        text = {"base64": b64, "gzip": lambda b: b64(gzip.compress(b))}.get(encoding, bytes.decode)
        more = {"encoding": encoding} if encoding else {}
        if body:
            more["body"] = text(body)
        await agent.say("proxy_response", r["id"], status=status, headers=headers or {}, **more)
    return handler


def framed(headers, body, status=200):
    async def handler(agent, r):
        await agent.frame(r["id"], status, headers, body)
    return handler


def pieces(parts, headers=None, status=200, end="proxy_response_end"):
    async def handler(agent, r):
        await agent.say("proxy_response_header", r["id"], status=status, headers=headers or {})
        for part in parts:
            await agent.say("proxy_response_chunk", r["id"], data=b64(part), encoding="base64",
                            size=len(part))
        if end:
            await agent.say(end, r["id"], **({} if end.endswith("end") else {"error": "EOF"}))
    return handler


def messages(*script):
    """Sends these messages ({id} is the request's), whatever they are."""
    async def handler(agent, r):
        for text in script:
            await agent.ws.send(text.replace("{id}", r["id"]))
    return handler


def accepts(talk, headers=None, early=b""):
    """Opens the WebSocket, then lets talk(agent, request) go on."""
    async def handler(agent, r):
        head = {"Upgrade": ["websocket"], "Connection": ["Upgrade"]}
        head.update(headers or {})
        more = {"body": b64(early), "encoding": "base64"} if early else {}
        await agent.say("proxy_response", r["id"], status=101, headers=head, **more)
        if talk:
            await talk(agent, r)
    return handler


async def echo(agent, r):
    """Every message back, as the service would."""
    while True:
        m = await r["more"].get()
        if m["type"] != "proxy_websocket_data":
            return
        data = base64.b64decode(m["payload"]["data"])
        if data[0] == 8:
            return
        await agent.data(r["id"], data[0], data[1:])

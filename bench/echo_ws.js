// A WebSocket echo on npm's ws, a peer of bench/run.  Prints "ready PORT".
"use strict";
const { WebSocketServer } = require("ws");

const server = new WebSocketServer({
	host: "127.0.0.1",
	port: 0,
	backlog: 4096,
	perMessageDeflate: false,
	maxPayload: 16 * 1024 * 1024,
});

server.on("listening", () => console.log(`ready ${server.address().port}`));
server.on("connection", (socket) => {
	socket.on("message", (data, binary) => socket.send(data, { binary }));
	socket.on("error", () => socket.terminate());
});

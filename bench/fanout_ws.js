// Dashboards and one agent on npm's ws, a peer of bench/run: what the agent
// says is read, written anew, and sent to every dashboard.  Prints "ready
// PORT".
"use strict";
const { WebSocketServer } = require("ws");

const server = new WebSocketServer({
	host: "127.0.0.1",
	port: 0,
	backlog: 4096,
	perMessageDeflate: false,
});
const dashboards = new Set();

function greet(socket, message) {
	if (message.type === "dashboard:connect") {
		dashboards.add(socket);
		socket.send(JSON.stringify({ type: "agent:list", agents: [],
			timestamp: new Date().toISOString() }));
	} else {
		socket.send(JSON.stringify({ type: "command:execute",
			commandId: "cmd_aaaaaaaaaaaaaaaaaaaa", command: "talk" }));
	}
}

function pass(message) {
	const at = new Date().toISOString();
	const text = JSON.stringify({ type: message.type, agentId: message.agentId,
		commandId: message.commandId,
		output: { ...message.output, timestamp: at }, timestamp: at });
	for (const socket of dashboards)
		socket.send(text);
}

server.on("listening", () => console.log(`ready ${server.address().port}`));
server.on("connection", (socket) => {
	socket.on("message", (data) => {
		const message = JSON.parse(data);
		if (message.type === "terminal:output")
			pass(message);
		else
			greet(socket, message);
	});
	socket.on("close", () => dashboards.delete(socket));
	socket.on("error", () => socket.terminate());
});

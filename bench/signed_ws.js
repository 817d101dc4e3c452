// The server of document 3 on npm's ws and node's crypto, as it shows it: a
// peer of bench/run.  Prints "ready PORT".
"use strict";
const http = require("http");
const crypto = require("crypto");
const { WebSocketServer } = require("ws");

const secret = process.argv[2];

function computeSignature(env) {
	const toSign = JSON.stringify({
		type: env.type, agentId: env.agentId, ts: env.ts, nonce: env.nonce,
		payload: env.payload,
	});
	return crypto.createHmac("sha256", secret).update(toSign).digest("hex");
}

function verifyEnvelope(env) {
	const { signature, ...rest } = env;
	return crypto.timingSafeEqual(Buffer.from(signature, "hex"),
		Buffer.from(computeSignature(rest), "hex"));
}

const agents = new Map();
const server = http.createServer();
const wss = new WebSocketServer({ server, path: "/agent" });

wss.on("connection", (socket) => {
	let agentId = null;
	socket.on("message", (data) => {
		const env = JSON.parse(data.toString());
		if (!verifyEnvelope(env)) {
			socket.close(1008, "invalid_signature");
			return;
		}
		agentId = env.agentId;
		agents.set(agentId, { socket, lastSeen: Date.now() });
	});
	socket.on("close", () => agents.delete(agentId));
	socket.on("error", () => socket.terminate());
});
server.listen(0, "127.0.0.1", 4096, () => console.log(`ready ${server.address().port}`));

// npm ws at both ends of a tunnel.
//
//   node tunnel.js serve                 an echo; prints its port
//   node tunnel.js visit PORT HOST       talks through the gateway, prints what came of it
"use strict";

const WebSocket = require("ws");

function serve() {
  const server = new WebSocket.Server({
    host: "127.0.0.1", port: 0, perMessageDeflate: { threshold: 0 },
    handleProtocols: (offered) => (offered.has("chat") ? "chat" : false),
  });
  server.on("listening", () => console.log(JSON.stringify({ port: server.address().port })));
  server.on("connection", (ws) => {
    ws.on("message", (data, binary) => ws.send(data, { binary }));
    ws.on("close", (code, reason) =>
      console.log(JSON.stringify({ code, reason: reason.toString() })));
  });
}

function visit(port, host) {
  const ws = new WebSocket("ws://127.0.0.1:" + port + "/ws", ["other", "chat"], {
    headers: { Host: host }, perMessageDeflate: { threshold: 0 },
  });
  const sent = ["text \u20ac", Buffer.from([8, 0, 255]), "", Buffer.alloc(300000, 7), "x".repeat(70000)];
  let same = 0;
  let pong = false;
  ws.on("open", () => {
    ws.ping("are you there");
    // In fragments, too.
    ws.send("frag", { fin: false });
    ws.send("ment", { fin: false });
    ws.send("ed", { fin: true });
    for (const m of sent) ws.send(m);
  });
  ws.on("pong", (data) => { pong = data.toString() === "are you there"; });
  const want = ["fragmented", ...sent];
  ws.on("message", (data, binary) => {
    const next = want.shift();
    if (binary ? data.equals(next) : data.toString() === next) same++;
    if (want.length === 0) ws.close(4001, "enough");
  });
  ws.on("close", (code, reason) => console.log(JSON.stringify({
    same, pong, code, reason: reason.toString(), protocol: ws.protocol, extensions: ws.extensions,
  })));
  ws.on("error", (e) => console.log(JSON.stringify({ error: e.message })));
}

if (process.argv[2] === "serve") serve();
else visit(process.argv[3], process.argv[4]);

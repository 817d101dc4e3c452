// chat: a Socket.IO chat room.  usage: node chat.js
// Tells its port, then a line of JSON for each person who comes or goes.
'use strict';

const http = require('http');
const { Server } = require('socket.io');

const PAGE = `<!doctype html><meta charset="utf-8"><title>chat</title>
<script src="/socket.io/socket.io.js"></script>
<script>
const socket = io(), said = [], seen = { connects: 0, disconnects: 0, reconnects: 0 };
socket.on('connect', () => { seen.connects++; });
socket.on('disconnect', () => { seen.disconnects++; });
socket.io.on('reconnect_attempt', () => { seen.reconnects++; });
socket.on('said', (who, text) => said.push([who, text]));
socket.on('blob', (who, bytes) => said.push([who, bytes.byteLength]));
const transport = () => socket.connected && socket.io.engine.transport.name;
</script><body>`;

const tell = (o) => console.log(JSON.stringify(o));
const server = http.createServer((req, res) => {
  res.setHeader('Content-Type', 'text/html');
  res.end(PAGE);
});

// Heartbeats often, so that a test sees several.
new Server(server, { pingInterval: 500, maxHttpBufferSize: 8 << 20 }).on('connection', (s) => {
  s.on('say', (who, text, done) => { s.broadcast.emit('said', who, text); done(); });
  s.on('throw', (who, bytes, done) => { s.broadcast.emit('blob', who, bytes); done(); });
  s.conn.on('upgrade', (t) => tell({ upgrade: t.name }));
  s.on('disconnect', (why) => tell({ left: why }));
});
server.listen(0, '127.0.0.1', () => tell({ port: server.address().port }));

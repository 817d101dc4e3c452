'use strict';
// A dashboard as existing front ends are one (upper spelling), for npm ws: a
// line of JSON for all it hears; what stdin says, {"type", "payload"} a line,
// it sends in the envelope; it ends with stdin.
// usage: node upper_dashboard.js URL TOKEN USER-ID

const WebSocket = require('ws');
const readline = require('readline');
const { randomUUID } = require('crypto');

const [base, token, userId] = process.argv.slice(2);
const said = (what, more) => console.log(JSON.stringify({ what, ...more }));
const ws = new WebSocket(`${base}/ws/dashboard?token=${encodeURIComponent(token)}`);
const send = (type, payload) => ws.send(
  JSON.stringify({ type, id: randomUUID(), timestamp: Date.now(), payload }));

ws.on('open', () => send('DASHBOARD_INIT', {
  userId, subscriptions: { agents: [], commands: [], traces: true, terminals: true }
}));
ws.on('message', (data) => {
  const message = JSON.parse(data);
  said('message', { message });
  if (message.type === 'PING') send('PONG', { timestamp: message.payload.timestamp });
});
ws.on('error', (error) => said('error', { text: error.message }));
ws.on('close', (code) => said('close', { code }));

const lines = readline.createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const { type, payload } = JSON.parse(line);
  send(type, payload);
});
lines.on('close', () => ws.close(1000));

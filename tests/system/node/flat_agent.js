'use strict';
// A coding agent as the test scripts of existing programs have it (flat
// spelling): it reads a command's members from `payload`, says running, a
// few lines and complete; on an interrupt first `interrupted`, then complete
// with 130; the same for an emergency stop, and then it leaves.
// usage: node flat_agent.js URL TOKEN AGENT-ID

const WebSocket = require('ws');

const [url, token, agentId] = process.argv.slice(2);
const ws = new WebSocket(`${url}?token=${token}`);
const running = new Map();
const now = () => new Date().toISOString();
const send = (type, more) => ws.send(JSON.stringify({ type, ...more, timestamp: now() }));
const print = (commandId, content, type = 'stdout') => send('terminal:output', {
  agentId, commandId, output: { type, content, timestamp: now() }
});

function finish(commandId, exitCode) {
  const command = running.get(commandId);
  if (!command) return;
  clearInterval(command.timer);
  running.delete(commandId);
  send('command:complete', { commandId, agentId, exitCode, duration: Date.now() - command.at });
}

function interrupt(commandId) {
  if (!running.has(commandId)) return;
  send('command:status', { commandId, agentId, status: 'interrupted' });
  finish(commandId, 130);
}

function execute({ commandId, command, args }) {
  let left = command === 'forever' ? Infinity : 3;
  running.set(commandId, {
    at: Date.now(),
    timer: setInterval(() => {
      if (left-- > 0) print(commandId, `${command} ${(args || []).join(' ')} ${left}\n`);
      else finish(commandId, 0);
    }, 5)
  });
  send('command:status', { commandId, agentId, status: 'running' });
}

ws.on('open', () => send('agent:connect', { agentId, agentType: 'mock', version: '1.0.0' }));
ws.on('message', (data) => {
  const message = JSON.parse(data);
  console.log(JSON.stringify({ what: 'message', message }));
  switch (message.type) {
    case 'command:execute':
      execute(message.payload);
      break;
    case 'command:interrupt':
      interrupt(message.payload ? message.payload.commandId : message.commandId);
      break;
    case 'system:emergency-stop':
      for (const id of [...running.keys()]) interrupt(id);
      setTimeout(() => ws.close(1000), 1000);
      break;
    case 'heartbeat:ping':
      send('heartbeat:pong', {});
      break;
  }
});
ws.on('error', (error) => console.log(JSON.stringify({ what: 'error', text: error.message })));
ws.on('close', (code) => console.log(JSON.stringify({ what: 'close', code })));
process.on('SIGTERM', () => ws.close(1000));

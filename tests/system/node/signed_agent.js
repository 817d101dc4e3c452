'use strict';
// An agent that signs its messages, as the document has it: HMAC-SHA256 over
// JSON.stringify of five members.  Says auth, then metrics and heartbeats,
// answers the five verbs one after the other, and checks the signature of
// what it is told as the document's server would.
// usage: node signed_agent.js URL SECRET AGENT-ID [MODE]
// MODE: metrics-first, silent (answers no command), slow

const crypto = require('crypto');
const WebSocket = require('ws');

const [url, secret, agentId, mode = ''] = process.argv.slice(2);
const log = (o) => console.log(JSON.stringify(o));

function computeSignature(env) {
  const toSign = JSON.stringify({
    type: env.type, agentId: env.agentId, ts: env.ts, nonce: env.nonce, payload: env.payload
  });
  return crypto.createHmac('sha256', secret).update(toSign).digest('hex');
}

const ws = new WebSocket(url);
function send(type, payload) {
  const env = { type, agentId, ts: Date.now(), nonce: crypto.randomUUID(), payload };
  const text = JSON.stringify({ ...env, signature: computeSignature(env) });
  log({ what: 'sent', text });
  ws.send(text);
}

const metrics = () => send('metrics', { cpuPercent: 25.5, memPercent: 45.2, diskUsage: 60.1 });
const auth = () => send('auth', { hostname: `host-of-${agentId}`, version: '4.0.3' });
const results = {
  ping: 'pong', run_health_check: 'health_ok', get_version: '4.0.3', get_machine_id: 'f00d',
  get_status: ''
};

ws.on('open', () => {
  log({ what: 'open', extensions: ws.extensions });
  if (mode === 'metrics-first') {
    metrics();
    auth();
  } else {
    auth();
    metrics();
  }
  send('heartbeat', { status: 'alive' });
  send('log', { level: 'warn', message: 'a <b>line</b> \u2028 of a log', source: '/var/log/x' });
});
ws.on('message', (data) => {
  const env = JSON.parse(data);
  const { signature, ...rest } = env;
  log({ what: 'message', message: env, good: computeSignature(rest) === signature });
  if (env.type !== 'command' || mode === 'silent') return;
  const { command } = env.payload;
  const answer = () => send('command_result', command === 'get_status'
    ? { command, result: '', error: 'exit status 3' }
    : { command, result: results[command] || 'unknown_command', error: '' });
  if (mode === 'slow') setTimeout(answer, 500);
  else answer();
});
ws.on('error', (error) => log({ what: 'error', text: error.message }));
ws.on('close', (code, reason) => log({ what: 'close', code, reason: reason.toString() }));
process.on('SIGTERM', () => ws.close(1000));

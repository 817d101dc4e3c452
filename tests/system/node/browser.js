// browser: people in a real Chromium, who use applications.
// usage: node browser.js chromium scenario url...
// Ends with one line of JSON, what was seen; the WebSockets of each page
// are watched from outside of it, for applications fall back silently.
'use strict';

const { createHash } = require('crypto');
const { createReadStream } = require('fs');
const { chromium } = require('playwright-core');

const PATIENCE = 60000;

// A page of a person of their own, with what its WebSockets do.
async function person(browser, url) {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(PATIENCE);
  page.sockets = [];
  page.wrong = [];
  page.on('pageerror', (e) => page.wrong.push(String(e)));
  page.on('websocket', (ws) => {
    const s = { path: new URL(ws.url()).pathname, sent: 0, received: 0, closed: false, texts: [] };
    page.sockets.push(s);
    const text = (f) => (typeof f.payload === 'string' ? f.payload.slice(0, 1000) : '');
    ws.on('framesent', () => { s.sent++; });
    ws.on('framereceived', (f) => { s.received++; s.texts.push(text(f)); });
    ws.on('close', () => { s.closed = true; });
    ws.on('socketerror', (e) => page.wrong.push(String(e)));
  });
  await page.goto(url, { timeout: PATIENCE });
  return page;
}

// Engine.IO's pings, of the first.
const beats = (page) => page.sockets[0].texts.filter((x) => x === '2').length;

const seen = (page) => ({
  wrong: page.wrong,
  sockets: page.sockets.map(({ texts, ...s }) => s),
});

async function until(what, condition) {
  for (const end = Date.now() + PATIENCE; !(await condition());) {
    if (Date.now() > end) throw new Error('still not: ' + what);
    await new Promise((done) => { setTimeout(done, 20); });
  }
}

// Two people, each by a URL of their own, talk; then both stay for some heartbeats.
async function chat(browser, urls) {
  const people = await Promise.all(urls.map((url) => person(browser, url)));
  for (const p of people) {
    await p.waitForFunction(() => transport() === 'websocket').catch(() => { throw new Error('no upgrade to websocket'); });
  }
  for (const p of people) {
    await p.evaluate(async (who) => {
      const send = (...m) => new Promise((done) => { socket.emit(...m, done); });
      for (let i = 0; i < 100; i++) await send('say', who, 'hello \u20ac ' + i);
      await send('throw', who, new Uint8Array(3 << 20));
    }, String(people.indexOf(p)));
  }
  await Promise.all(people.map((p) => p.waitForFunction(() => said.length === 101)));
  const from = people.map(beats);
  await until('heartbeats', () => people.every((p, i) => beats(p) >= from[i] + 4));
  return Promise.all(people.map(async (p) => ({
    ...seen(p), ...await p.evaluate(() => ({ ...seen, said, transport: transport() })),
  })));
}

// A page that shows events and asks for the next one; it goes after ten.
async function events(browser, [url]) {
  const page = await person(browser, url);
  await page.waitForFunction(() => shown.length === 10);
  const r = { ...seen(page), ...await page.evaluate(() => ({ shown, opened, errors })) };
  await page.close();
  return { ...r, gone: Date.now() };
}

// Node-RED's editor: a flow is put together, deployed and used by its button.
async function nodered(browser, [url]) {
  const page = await person(browser, url);
  const comms = () => page.sockets.find((s) => s.path === '/comms');
  await page.waitForFunction(() => window.RED && RED.view && RED.nodes && RED.nodes.getType('debug')
    && document.querySelector('#red-ui-header-button-deploy') && !document.querySelector('#red-ui-loading-progress:not([style*="none"])'));
  await until('the editor\'s WebSocket', () => comms() && comms().received > 0);
  await page.evaluate(() => {
    const z = RED.workspaces.active();
    RED.nodes.import([
      { id: 'a1', z, type: 'inject', name: 'push', props: [{ p: 'payload' }], payload: 'it came through', payloadType: 'str',
        repeat: '', once: false, onceDelay: 0.1, topic: '', x: 150, y: 100, wires: [['b1']] },
      { id: 'b1', z, type: 'debug', name: 'shown', active: true, tosidebar: true, console: false, tostatus: false,
        complete: 'payload', targetType: 'msg', x: 400, y: 100, wires: [] },
    ]);
    RED.nodes.dirty(true);
    RED.view.redraw(true);
  });
  const deployed = page.waitForResponse((r) => r.url().endsWith('/flows') && r.request().method() === 'POST');
  await page.click('#red-ui-header-button-deploy');
  const status = (await deployed).status();
  await page.evaluate(() => RED.sidebar.show('debug'));
  for (let i = 1; i <= 3; i++) {
    await until('the button', async () => {
      const done = page.waitForResponse((r) => r.url().includes('/inject/'), { timeout: 3000 }).then((r) => r.ok(), () => false);
      await page.locator('.red-ui-flow-node-button-button').first().click({ force: true, timeout: 3000 }).catch(() => {});
      return done;
    });
    await page.waitForFunction((n) => document.querySelectorAll('.red-ui-debug-msg').length >= n, i);
  }
  const shown = await page.locator('.red-ui-debug-msg .red-ui-debug-msg-payload').allInnerTexts();
  const pushed = comms().texts.filter((x) => x.includes('it came through')).length;
  return { ...seen(page), status, shown, pushed };
}

// A file is saved by a link, and sent back by a form field.
async function files(browser, [url]) {
  const page = await person(browser, url);
  let begun = Date.now();
  const saved = page.waitForEvent('download');
  await page.click('a');
  const path = await (await saved).path();
  const down = Date.now() - begun;
  const sum = createHash('sha256');
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) sum.update(piece);
  await page.setInputFiles('input', path);
  begun = Date.now();
  const answer = await page.evaluate(async () => {
    const a = await fetch('/file', { method: 'POST', body: document.querySelector('input').files[0] });
    return { status: a.status, sum: await a.text() };
  });
  return { ...seen(page), saved: sum.digest('hex'), down, sent: answer, up: Date.now() - begun };
}

async function main([executablePath, scenario, ...words]) {
  const browser = await chromium.launch({
    executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-proxy-server'],
  }).catch((e) => { console.log(JSON.stringify({ skip: String(e).slice(0, 300) })); process.exit(0); });
  try {
    const r = await { chat, events, nodered, files }[scenario](browser, words);
    console.log(JSON.stringify(r));
  } finally {
    await browser.close();
  }
}

main(process.argv.slice(2)).catch((e) => { console.error(e); process.exit(1); });

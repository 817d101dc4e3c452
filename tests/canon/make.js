// Makes vectors.jsonl: what JSON.stringify of this Node makes of odd values,
// and messages signed in every way met in the field with the verdict that
// docs/protocol/signed.md, section 3 gives them.  Messages of Go come from
// make.go, through the file named as the first argument.
//
//	go run make.go > go.jsonl && node make.js go.jsonl > vectors.jsonl
'use strict';
const crypto = require('crypto');
const fs = require('fs');

const SECRET = 'correct horse battery staple';
const hmac = (text, key = SECRET) =>
	crypto.createHmac('sha256', key).update(text).digest('hex');
// ASCII only, so that the file survives every editor; text is what is meant.
const line = (o) => console.log(JSON.stringify(o).replace(/[\u007f-\uffff]/g,
	(c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0')));

// Values, as raw JSON text --------------------------------------------------

const values = {
	document: '{"cpuPercent":25.5,"memPercent":45.2,"diskUsage":60.1}',
	markup: '{"a":"<b>&amp;</b>"}',
	markup_escaped: '{"a":"\\u003cb\\u003e\\u0026"}',
	separators: '{"a":"\u2028\u2029"}',
	separators_escaped: '{"a":"\\u2028\\u2029"}',
	pair: '{"a":"\ud83d\ude00"}',
	pair_escaped: '{"a":"\\ud83d\\ude00"}',
	pair_upper: '{"a":"\\uD83D\\uDE00"}',
	lone_high: '{"a":"\\ud83d"}',
	lone_low: '{"a":"\\uDE00x"}',
	lone_order: '{"a":"\\ude00\\ud83d"}',
	lone_name: '{"\\ud800":1}',
	controls: '{"a":"\\u0000\\u0001\\b\\f\\n\\r\\t\\u000b\\u001f\\u007f"}',
	controls_long: '{"a":"\\u0008\\u000c\\u000a\\u000d\\u0009"}',
	quotes: '{"a\\"":"\\\\ \\/ \\u002f \\u0022 \\u005c"}',
	accents: '{"\u00e9":"\u00fc \\u00fc"}',
	numbers_as_names: '{"b":1,"10":2,"9":3,"a":4,"0":5}',
	no_indices: '{"01":1,"1.0":2,"-1":3,"4294967295":4,"4294967294":5,"1e1":6}',
	nested_indices: '[{"2":{"1":0,"0":[{"z":1,"7":2}]},"x":1,"1":2}]',
	proto: '{"__proto__":{"a":1},"toJSON":2,"constructor":3}',
	zero: '[0,-0,0.0,-0.0,0e5,-0e-5]',
	whole: '[1.0,25.50,100,1e2,1.5e3,12300e-2]',
	big: '[1e20,1e21,123456789012345680000,1.7976931348623157e308,1e400,-1e400]',
	above_2_53: '[9007199254740991,9007199254740993,12345678901234567890]',
	small: '[0.000001,0.0000001,1e-7,5e-324,3e-324,2e-324,1e-400]',
	digits: '[0.1,0.30000000000000004,45.2,45.200000000000003,1e23]',
	edges: '[5.684341886080801e-14,5.684341886080802e-14,9.5367431640625e-7]',
	space: ' { "a" : [ 1 , 2 ] , "b" : { } } ',
	lines: '{\n  "a": [],\n\t"b": ""\r\n}',
	deep: '['.repeat(40) + '{"a":{}}' + ']'.repeat(40),
	text: '"alone"',
	literals: '[null,true,false,"",[],{}]',
};

for (const [name, raw] of Object.entries(values))
	line({ kind: 'value', name, text: raw,
		stringify: JSON.stringify(JSON.parse(raw)) });

// Every power of two, its neighbours, and a thousand others.
{
	const view = new DataView(new ArrayBuffer(8));
	const numbers = [];
	const bits = (n) => { view.setBigUint64(0, n); return view.getFloat64(0); };
	for (let e = 0n; e < 2047n; e += 9n)
		for (const d of [-1n, 0n, 1n])
			if ((e << 52n) + d > 0n)
				numbers.push(bits((e << 52n) + d));
	let x = 88172645463325252n;
	for (let i = 0; i < 400; i++) {
		x ^= x << 13n & 0xffffffffffffffffn;
		x ^= x >> 7n;
		x ^= x << 17n & 0xffffffffffffffffn;
		const d = bits(x);
		if (Number.isFinite(d))
			numbers.push(d);
	}
	// Read with more digits than needed, written with as few as do.
	const long = numbers.map((d) => d.toExponential(20));
	for (let i = 0; i < long.length; i += 100) {
		const text = '[' + long.slice(i, i + 100).join(',') + ']';
		line({ kind: 'value', name: 'doubles ' + i / 100, text,
			stringify: JSON.stringify(JSON.parse(text)) });
	}
}

// Messages ------------------------------------------------------------------

const ORDER = ['type', 'agentId', 'ts', 'nonce', 'payload'];
const base = (payload) => ({ type: '"metrics"', agentId: '"agent-123"',
	ts: '1731819422000', nonce: '"8c5e1b1a-0000-4000-8000-000000000001"',
	payload });
const compact = (m) =>
	'{' + ORDER.map((k) => `"${k}":${m[k]}`).join(',') + '}';
const ecma = (m) => compact(Object.fromEntries(
	ORDER.map((k) => [k, JSON.stringify(JSON.parse(m[k]))])));

// How it is put on the wire: order, separators, where the signature goes.
const wires = {
	document: { order: [...ORDER, 'signature'] },
	first: { order: ['signature', ...ORDER] },
	middle: { order: ['type', 'agentId', 'signature', 'ts', 'nonce', 'payload'] },
	sorted: { order: ['agentId', 'nonce', 'payload', 'signature', 'ts', 'type'] },
	python: { order: [...ORDER, 'signature'], comma: ', ', colon: ': ' },
	pretty: { order: [...ORDER, 'signature'], open: '{\n  ', comma: ',\n  ',
		colon: ': ', close: '\n}\n' },
	python_first: { order: ['signature', ...ORDER], comma: ' , ', colon: ' : ' },
	extra: { order: [...ORDER, 'v', 'signature'] },
	extra_behind: { order: [...ORDER, 'signature', 'v'] },
};
function put(m, wire, signature) {
	const all = { v: '"4.0.3"', ...m, signature: `"${signature}"` };
	const { order, open = '{', comma = ',', colon = ':', close = '}' } = wire;
	const members = order.filter((k) => all[k] !== undefined)
		.map((k) => `"${k}"${colon}${all[k]}`);
	return open + members.join(comma) + close;
}
// What stands there without the signature.
const received = (m, wire) => put(m,
	{ ...wire, order: wire.order.filter((k) => k !== 'signature') }, '').trim();

function message(name, m, wire, signed, key = SECRET, secret = SECRET) {
	const candidates = { received: received(m, wire), raw: compact(m),
		ecma: ecma(m) };
	let verdict = 'denied';
	for (const form of ['ecma', 'raw', 'received'])
		if (key === secret && candidates[form] === signed)
			verdict = form;
	line({ kind: 'message', name, secret, verdict,
		text: put(m, wire, hmac(signed, key)) });
}

const payloads = ['document', 'markup', 'markup_escaped', 'separators_escaped',
	'pair_upper', 'lone_high', 'numbers_as_names', 'zero', 'whole', 'big',
	'above_2_53', 'digits', 'space', 'deep', 'controls_long'];
for (const p of payloads) {
	const m = base(values[p]);
	// The seed's server signs what it parsed, the agent what it sends.
	message(`${p} as sent`, m, wires.document, received(m, wires.document));
	message(`${p} stringified`, m, wires.document, ecma(m));
}
{
	const odd = base('{ "9":1.0, "1":"\\u003c" }');
	for (const [w, wire] of Object.entries(wires)) {
		message(`${w} as sent`, odd, wire, received(odd, wire));
		message(`${w} compact`, odd, wire, compact(odd));
		message(`${w} stringified`, odd, wire, ecma(odd));
	}
}

// And what is to be refused.
const plain = base(values.document);
const good = compact(plain);
message('other secret', plain, wires.document, good, 'another', SECRET);
message('other agent', base(values.document), wires.document,
	good.replace('agent-123', 'agent-124'));
message('other payload', plain, wires.document, good.replace('25.5', '25.50'));
message('without payload', plain, wires.document,
	good.replace(/,"payload".*/, '}'));
message('null payload', base('null'), wires.document,
	compact(base('null')));
const refuse = (name, text, verdict = 'denied') =>
	line({ kind: 'message', name, secret: SECRET, verdict, text });
const sent = (signature) => put(plain, wires.document, signature);
refuse('no signature', good);
refuse('empty signature', sent(''));
refuse('short signature', sent(hmac(good).slice(0, 32)));
refuse('odd signature', sent(hmac(good).slice(0, 63)));
refuse('long signature', sent(hmac(good) + '00'));
refuse('no digits', sent('z'.repeat(64)));
refuse('one bit', sent(hmac(good).replace(/.$/,
	(c) => (parseInt(c, 16) ^ 1).toString(16))));
refuse('upper case', sent(hmac(good).toUpperCase()), 'received');
refuse('number', good.slice(0, -1) + ',"signature":1}');
refuse('repeated member', good.slice(0, -1) +
	`,"payload":{},"signature":"${hmac(good)}"}`, 'duplicate');
refuse('repeated signature', good.slice(0, -1) +
	`,"signature":"00","signature":"${hmac(good)}"}`, 'duplicate');
refuse('repeated escaped', good.slice(0, -1) +
	`,"\\u0074s":1,"signature":"${hmac(good)}"}`, 'duplicate');
refuse('repeated within', put(base('{"a":1,"a":2}'), wires.document,
	hmac(compact(base('{"a":1,"a":2}')))), 'duplicate');
refuse('nested signature', put(base('{"signature":"00"}'), wires.document,
	hmac(compact(base('{"signature":"00"}')))), 'received');

for (const text of fs.readFileSync(process.argv[2], 'utf8').trim().split('\n'))
	line(JSON.parse(text));

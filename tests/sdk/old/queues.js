// JavaScript SDK 1.2.3: send, batch, receive, peek, ack all, and streams of single messages with every settlement.
'use strict';
const assert = require('node:assert/strict');
const { QueuesClient, Utils } = require('kubemq-js');

const client = new QueuesClient({ address: process.env.RINGMQ_ADDRESS, clientId: 'js-1.2.3' });
const name = (label) => `js-${Date.now()}-${Math.floor(Math.random() * 1e9)}-${label}`;
const message = (channel, body, policy) => ({ channel, body: Utils.stringToBytes(body), policy });
const text = (message) => Utils.bytesToString(message.body);

// One message over a stream: `settle` gets it, and the stream ends by what it does.
const one = async (channel, settle, visibilitySeconds = 5) => {
  let seen = null;
  let settling = Promise.resolve();
  const request = { channel, visibilitySeconds, waitTimeoutSeconds: 5 };
  let failure = null;
  await client.transaction(request, (error, taken) => {
    if (error) failure = error;
    if (taken) {
      seen = taken.message;
      settling = settle(taken);
    }
  });
  await settling;
  return [seen, failure];
};

const pull = (channel, maxNumberOfMessages = 10, waitTimeoutSeconds = 1) =>
  client.pull({ channel, maxNumberOfMessages, waitTimeoutSeconds });

const checks = {
  'sent messages are peeked and pulled in order': async () => {
    const channel = name('order');
    const sent = await client.send({ ...message(channel, '0'), id: 'id-0', metadata: 'm' });
    assert.deepEqual([sent.id, sent.isError], ['id-0', false]);
    const batch = await client.batch([message(channel, '1'), message(channel, '2')]);
    assert.deepEqual(batch.map((result) => result.isError), [false, false]);
    const peeked = await client.peek({ channel, maxNumberOfMessages: 10, waitTimeoutSeconds: 1 });
    assert.deepEqual(peeked.messages.map(text), ['0', '1', '2']);
    const pulled = await pull(channel);
    assert.deepEqual(pulled.messages.map(text), ['0', '1', '2']);
    assert.deepEqual(pulled.messages.map((m) => m.attributes.sequence), [1, 2, 3]);
    assert.equal((await pull(channel)).messages.length, 0);
  },
  'ack all empties a queue': async () => {
    const channel = name('ack-all');
    await client.batch([message(channel, '0'), message(channel, '1')]);
    const done = await client.ackAll({ channel, waitTimeoutSeconds: 1 });
    assert.deepEqual([done.affectedMessages, done.isError], [2, false]);
  },
  'an acknowledged message is gone': async () => {
    const channel = name('ack');
    await client.send(message(channel, 'x'));
    const [seen, failure] = await one(channel, (taken) => taken.ack());
    assert.deepEqual([text(seen), seen.attributes.receiveCount, failure], ['x', 1, null]);
    assert.equal((await pull(channel)).messages.length, 0);
  },
  'a rejected message comes again, then is a dead letter': async () => {
    const channel = name('reject');
    const dead = name('dead');
    await client.send(message(channel, 'x', { maxReceiveCount: 2, maxReceiveQueue: dead }));
    for (const count of [1, 2]) {
      const [seen] = await one(channel, (taken) => taken.reject());
      assert.equal(seen.attributes.receiveCount, count);
    }
    const letter = (await pull(dead, 1, 10)).messages[0];
    assert.deepEqual([text(letter), letter.attributes.reRouted], ['x', true]);
    assert.equal(letter.attributes.reRoutedFromQueue, channel);
  },
  'a message is resent, and sent modified': async () => {
    const channel = name('resend');
    const target = name('target');
    await client.batch([message(channel, 'a'), message(channel, 'b')]);
    await one(channel, (taken) => taken.resendToChannel(target));
    await one(channel, (taken) => taken.resendNewMessage(message(target, 'B')));
    const moved = [...(await pull(target, 1, 10)).messages, ...(await pull(target, 1, 10)).messages];
    assert.deepEqual(moved.map(text), ['a', 'B']);
  },
  'visibility runs out, and is extended': async () => {
    const channel = name('visibility');
    await client.send(message(channel, 'x'));
    const [, failure] = await one(channel, () => Promise.resolve(), 1);
    assert.match(failure.message, /^Error 129: current visibility timer expired/);
    const [seen, none] = await one(channel, async (taken) => {
      await taken.extendVisibility(5);
      await new Promise((resolve) => setTimeout(resolve, 1500));
      await taken.ack();
    }, 1);
    assert.deepEqual([seen.attributes.receiveCount, none], [2, null]);
  },
  'an empty queue ends the stream with 138': async () => {
    const request = { channel: name('empty'), visibilitySeconds: 1, waitTimeoutSeconds: 1 };
    let failure = null;
    await client.transaction(request, (error) => {
      if (error) failure = error;
    });
    assert.match(failure.message, /^Error 138: no new message in queue, wait time expired/);
  },
};

(async () => {
  for (const [what, check] of Object.entries(checks)) {
    await check();
    console.log(`ok: ${what}`);
  }
  console.log(`${Object.keys(checks).length} passed`);
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});

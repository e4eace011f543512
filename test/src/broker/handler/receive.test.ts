/** Receive and Settle on a scripted replica: what is given out to whom, and what a handle is worth. */
import { expect, test } from 'vitest'
import { encodeCommand } from '../../../../src/broker/apply/command.ts'
import type { GroupSettings } from '../../../../src/broker/apply/group-config.ts'
import { errorTable } from '../../../../src/common/errors.ts'
import { encodeBatch, readRecords } from '../../../../src/message/batch.ts'
import { buildRecord } from '../../../../src/message/build-record.ts'
import { batchKinds, codecs } from '../../../../src/message/types.ts'
import { decodePulledBatches } from '../../../../src/rpc/envelopes.ts'
import { brokerMethods } from '../../../../src/rpc/methods.ts'
import type { ReceiveReply, ReceiveRequest, SettleEntry } from '../../../../src/rpc/receive-messages.ts'
import { frameTypes } from '../../../../store/index.ts'
import { settle as settled } from '../../../support/manual-clock.ts'
import { seededNumbers } from '../../../support/seeded-numbers.ts'
import { type HandlerBench, openBench } from './support.ts'

const minuteMs = 60_000

interface Sent {
  readonly body: string
  readonly tag?: string
  readonly messageGroup?: string
}

/** One batch. */
function send(bench: HandlerBench, messages: readonly (Sent | string)[], queue = 0, topic = 't'): void {
  const records = messages.map((message, at) => {
    const { body, tag = '', messageGroup = '' } = typeof message === 'string' ? { body: message } : message
    return buildRecord({ topic: 't', body, tag }, { messageId: `id-${body.slice(0, 20)}-${at}`, messageGroup }).record
  })
  const batch = encodeBatch({
    codec: codecs.none,
    kind: batchKinds.normal,
    firstOfProducer: false,
    producerId: Buffer.alloc(16),
    producerEpoch: 0,
    baseSequence: 0,
    baseBornTime: 1_000,
    topic,
    queue,
    bornHost: 'h',
    extensions: [],
    records,
  })
  bench.replica.commit(frameTypes.batch, batch)
}

function receive(bench: HandlerBench, fields: Partial<ReceiveRequest> = {}): Promise<ReceiveReply> {
  return bench.channel.call(brokerMethods.receive, { ...receiveDefaults, ...fields }, { timeoutMs: 40_000 })
}

const receiveDefaults: ReceiveRequest = {
  group: 'g',
  topic: 't',
  maxMessages: 32,
  bytesMax: 1024 * 1024,
  waitMs: 0,
  invisibleMs: minuteMs,
  attemptId: '',
  expression: '*',
  from: 'first',
  fromTime: 0,
}

/** Codes and new handles, in the order asked. */
async function settle(
  bench: HandlerBench,
  entries: readonly (Partial<SettleEntry> & { readonly handle: string })[],
  group = 'g',
): Promise<readonly (readonly [code: number, handle: string])[]> {
  const messages = entries.map((entry) => ({ action: 'ack', invisibleMs: 0, ...entry }))
  const { results } = await bench.call(brokerMethods.settle, { group, messages })
  return results.map(({ code, handle }) => [code, handle])
}

/** Bodies with the attempts, as a receiver reads them. */
function bodies(reply: ReceiveReply): readonly string[] {
  const batches = decodePulledBatches(reply.batches)
  return reply.messages.map(({ offset, attempt }) => {
    for (const { baseOffset, batch } of batches) {
      const record = offset < baseOffset ? undefined : readRecords(batch)[offset - baseOffset]
      if (record) return attempt === 1 ? record.body.toString() : `${record.body.toString()} x${attempt}`
    }
    throw new Error(`offset ${offset} was not sent`)
  })
}

function handleOf(reply: ReceiveReply, at = 0): string {
  const message = reply.messages[at]
  if (!message) throw new Error('nothing was received')
  return message.handle
}

/** Log time and the clock go on together. */
async function pass(bench: HandlerBench, ms: number): Promise<void> {
  bench.replica.passedMs += ms
  await bench.clock.advance(ms)
}

function setGroup(bench: HandlerBench, settings: Partial<GroupSettings>): void {
  const current = bench.replica.machine.groupSettings.get('g')
  const command = encodeCommand({ kind: 'set_group', group: 'g', settings: { ...current, ...settings } })
  bench.replica.commit(frameTypes.command, command)
}

async function opened(queues = 1): Promise<HandlerBench> {
  const bench = await openBench()
  bench.topic('t', queues)
  return bench
}

const stale = errorTable.RECEIPT_STALE.number
const invalid = errorTable.INVALID_PARAMETER.number

test('a message is given to one receiver, and to another when its time is over', async () => {
  const bench = await opened()
  send(bench, ['a', 'b', 'c'])
  const first = await receive(bench, { maxMessages: 2 })
  expect(bodies(first)).toEqual(['a', 'b'])
  expect(first.invisibleMs).toBeGreaterThan(minuteMs - 10)
  expect(bodies(await receive(bench))).toEqual(['c'])
  expect((await receive(bench)).messages).toEqual([])
  expect(await settle(bench, [{ handle: handleOf(first) }])).toEqual([[0, '']])
  await pass(bench, minuteMs)
  const again = await receive(bench)
  expect(bodies(again)).toEqual(['b x2', 'c x2'])
  expect(await settle(bench, [{ handle: handleOf(first, 1) }, { handle: handleOf(again) }])).toEqual([
    [stale, ''],
    [0, ''],
  ])
})

test('a receiver that waits is woken by a message, by one that is visible again, and by one that is given back', async () => {
  const bench = await opened(2)
  const first = receive(bench, { waitMs: 20_000 })
  await settled()
  send(bench, ['a'], 1)
  const received = await first
  expect(bodies(received)).toEqual(['a'])
  const second = receive(bench, { waitMs: 20_000, invisibleMs: 5_000 })
  await settled()
  const [[, handle] = []] = await settle(bench, [{ handle: handleOf(received), action: 'change', invisibleMs: 3_000 }])
  expect(handle).not.toBe('')
  await pass(bench, 2_900)
  await pass(bench, 200)
  const again = await second
  expect(bodies(again)).toEqual(['a x2'])
  const third = receive(bench, { waitMs: 20_000 })
  await settled()
  expect(await settle(bench, [{ handle: handle ?? '' }])).toEqual([[stale, '']])
  await settle(bench, [{ handle: handleOf(again), action: 'change', invisibleMs: 0 }])
  expect(bodies(await third)).toEqual(['a x3'])
})

test('the wait ends with nothing, and leaves nothing behind', async () => {
  const bench = await opened()
  const timers = bench.clock.timerCount
  const waiting = receive(bench, { waitMs: 5_000 })
  await settled()
  expect(bench.clock.timerCount).toBe(timers + 1)
  await pass(bench, 4_999)
  await pass(bench, 1)
  expect((await waiting).messages).toEqual([])
  expect(bench.clock.timerCount).toBe(timers)
})

test('receivers of one queue take turns: each message goes to one of them', async () => {
  const bench = await opened()
  for (let at = 0; at < 20; at++) send(bench, [`m${at}`])
  const replies = await Promise.all(Array.from({ length: 10 }, () => receive(bench, { maxMessages: 2, waitMs: 1_000 })))
  expect(replies.flatMap(bodies).sort()).toEqual(Array.from({ length: 20 }, (_, at) => `m${at}`).sort())
})

test('all queues of a topic get their turn, and one can be asked for alone', async () => {
  const bench = await opened(3)
  for (const queue of [0, 1, 2]) send(bench, [`q${queue}`, `q${queue}`], queue)
  const found: number[] = []
  for (let turn = 0; turn < 3; turn++) found.push((await receive(bench, { maxMessages: 1 })).queue)
  expect(found.sort()).toEqual([0, 1, 2])
  expect((await receive(bench, { queue: 1 })).queue).toBe(1)
  expect((await receive(bench, { queue: 1 })).messages).toEqual([])
  await expect(receive(bench, { queue: 3 })).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
})

test('the same attempt gets the same messages while they are with it, from any queue, and others do not', async () => {
  const bench = await opened(2)
  send(bench, ['a'], 0)
  send(bench, ['b'], 1)
  const first = await receive(bench, { attemptId: 'one' })
  const other = await receive(bench, { attemptId: 'two' })
  expect(await receive(bench, { attemptId: 'one' })).toMatchObject({ messages: first.messages, queue: first.queue })
  expect(await receive(bench, { attemptId: 'two' })).toMatchObject({ messages: other.messages, queue: other.queue })
  expect((await receive(bench, { attemptId: 'three' })).messages).toEqual([])
  await settle(bench, [{ handle: handleOf(first) }])
  expect((await receive(bench, { attemptId: 'one' })).messages).toEqual([])
  await pass(bench, minuteMs)
  expect((await receive(bench, { attemptId: 'two' })).messages).toMatchObject([{ attempt: 2 }])
})

test('an attempt that is asked again while it is being granted gets that, and nothing of another queue', async () => {
  const bench = await opened(2)
  await receive(bench)
  send(bench, ['a'], 0)
  send(bench, ['b'], 1)
  bench.replica.holdProposals = true
  const withdrawn = new AbortController()
  const options = { timeoutMs: 40_000, signal: withdrawn.signal }
  const first = bench.channel.call(brokerMethods.receive, { ...receiveDefaults, attemptId: 'one' }, options)
  await settled()
  withdrawn.abort()
  const again = receive(bench, { attemptId: 'one' })
  await settled()
  bench.replica.commitHeld()
  const [, given] = await Promise.all([first.catch(() => null), again])
  expect(given.messages).toHaveLength(1)
  expect((await receive(bench)).messages).toHaveLength(1)
  expect((await receive(bench)).messages).toHaveLength(0)
})

test('a receiver that waits in vain gives way to its own second call', async () => {
  const bench = await opened()
  const lost = receive(bench, { attemptId: 'one', waitMs: 20_000 })
  await settled()
  const again = receive(bench, { attemptId: 'one', waitMs: 20_000 })
  await expect(lost).rejects.toMatchObject({ code: 'ABORTED' })
  send(bench, ['a'])
  expect(bodies(await again)).toEqual(['a'])
})

test('a group that comes new begins at the end, or where it says, and at once', async () => {
  const bench = await opened(2)
  send(bench, ['old'])
  const waiting = receive(bench, { from: '', waitMs: 20_000 })
  await settled()
  send(bench, ['new'])
  expect(bodies(await waiting)).toEqual(['new'])
  send(bench, ['newer'], 1)
  expect(bodies(await receive(bench, { from: '' }))).toEqual(['newer'])
  expect(bodies(await receive(bench, { group: 'h', from: 'first', queue: 0 }))).toEqual(['old', 'new'])
  // A queue that came later than the group begins at its beginning.
  const config = { topic: 't', readQueues: 3, writeQueues: 3, permission: 6 }
  bench.replica.commit(frameTypes.command, encodeCommand({ kind: 'update_topic', config }))
  send(bench, ['first of its queue'], 2)
  expect(bodies(await receive(bench, { from: '' }))).toEqual(['first of its queue'])
})

test('what does not match the tags is passed over', async () => {
  const bench = await opened()
  send(bench, [{ body: 'a1', tag: 'Aa' }, { body: 'x' }, { body: 'b', tag: 'BB' }, { body: 'a2', tag: 'Aa' }])
  send(bench, ['y'])
  expect(bodies(await receive(bench, { expression: 'Aa || C', maxMessages: 1 }))).toEqual(['a1'])
  expect(bodies(await receive(bench, { expression: 'Aa' }))).toEqual(['a2'])
  expect((await receive(bench, { expression: 'Aa' })).messages).toEqual([])
  expect((await receive(bench)).messages).toEqual([])
  expect(bench.replica.machine.received.find('g', { topicId: 1, queue: 0 })?.cursor).toBe(5)
})

test('an answer stays within its bytes, with one message at least', async () => {
  const bench = await opened()
  for (const body of ['a', 'b', 'c']) send(bench, [body.repeat(1000)])
  const reply = await receive(bench, { bytesMax: 2_500 })
  expect(reply.messages).toHaveLength(2)
  expect((await receive(bench, { bytesMax: 1 })).messages).toHaveLength(1)
})

test('the order of message groups holds: nobody gets the next one while somebody has the one before', async () => {
  const bench = await opened()
  setGroup(bench, { ordered: true })
  send(
    bench,
    ['a1', 'a2', 'b1'].map((body) => ({ body, messageGroup: body.slice(0, 1) })),
  )
  send(
    bench,
    ['c1', 'a3'].map((body) => ({ body, messageGroup: body.slice(0, 1) })),
  )
  const first = await receive(bench, { maxMessages: 1 })
  expect(bodies(first)).toEqual(['a1'])
  // a2 and a3 wait, the others need not.
  const others = await receive(bench)
  expect(bodies(others)).toEqual(['b1', 'c1'])
  expect((await receive(bench)).messages).toEqual([])
  const waiting = receive(bench, { waitMs: 20_000, maxMessages: 4 })
  await settled()
  await settle(bench, [{ handle: handleOf(first) }])
  const second = await waiting
  expect(bodies(second)).toEqual(['a2', 'a3'])
  await settle(bench, [{ handle: handleOf(second, 1), action: 'change', invisibleMs: 0 }])
  // a3 is given back, a2 is still with somebody.
  expect((await receive(bench)).messages).toEqual([])
  await settle(bench, [{ handle: handleOf(second) }])
  expect(bodies(await receive(bench))).toEqual(['a3 x2'])
})

test('a message group waits for the one that somebody has until its time is over, without any other event', async () => {
  const bench = await opened()
  setGroup(bench, { ordered: true })
  send(
    bench,
    ['a1', 'a2'].map((body) => ({ body, messageGroup: 'a' })),
  )
  const both = await receive(bench, { invisibleMs: 10_000 })
  await settle(bench, [{ handle: handleOf(both), action: 'change', invisibleMs: 0 }])
  const waiting = receive(bench, { waitMs: 20_000 })
  await pass(bench, 9_900)
  await pass(bench, 200)
  expect(bodies(await waiting)).toEqual(['a1 x2', 'a2 x2'])
})

test('by chance: each delivery goes to one receiver, and each message is acknowledged once', async () => {
  const bench = await opened(3)
  const next = seededNumbers(7)
  const below = (limit: number): number => Math.floor(next() * limit)
  const left = Array.from({ length: 120 }, (_, at) => `m${at}`)
  const deliveries = new Set<string>()
  const done: string[] = []
  const handOut = async (): Promise<void> => {
    const reply = await receive(bench, { maxMessages: 1 + below(3), invisibleMs: 100 + below(2_000) })
    for (const [nth, delivery] of bodies(reply).entries()) {
      const body = delivery.split(' ')[0] ?? ''
      expect(deliveries.has(delivery), delivery).toBe(false)
      expect(done).not.toContain(body)
      deliveries.add(delivery)
      if (next() < 0.4) continue
      const action = next() < 0.3 ? 'change' : 'ack'
      const [[code] = []] = await settle(bench, [{ handle: handleOf(reply, nth), action, invisibleMs: 50 }])
      if (code !== 0) expect(code).toBe(stale)
      else if (action === 'ack') done.push(body)
    }
  }
  const work = async (): Promise<void> => {
    while (done.length < 120) {
      if (left.length > 0 && next() < 0.5) send(bench, left.splice(0, 1 + below(4)), below(3))
      await handOut()
      if (next() < 0.3) bench.replica.passedMs += 200
    }
  }
  await Promise.all([work(), work(), work(), work()])
  expect(new Set(done).size).toBe(120)
  expect(deliveries.size).toBeGreaterThan(150)
  expect(bench.replica.machine.received.ofGroup('g').flatMap(({ messages }) => [...messages])).toEqual([])
})

test('a message that was delivered as often as may be goes to the dead letters with its history', async () => {
  const bench = await opened()
  setGroup(bench, { retriesMax: 1 })
  send(bench, ['good', { body: 'bad', tag: 'T' }])
  for (const attempt of [1, 2]) {
    const reply = await receive(bench)
    expect(reply.messages.at(-1)).toMatchObject({ offset: 1, attempt })
    if (attempt === 1) await settle(bench, [{ handle: handleOf(reply) }])
    await pass(bench, minuteMs)
  }
  expect((await receive(bench)).messages).toEqual([])
  expect(bench.replica.machine.committedOffset('g', 1, 0)).toBe(2)
  const dead = await receive(bench, { topic: '%DLQ%g', group: 'h' })
  const [record] = decodePulledBatches(dead.batches).flatMap(({ batch }) => readRecords(batch))
  expect(record).toMatchObject({
    attempt: 2,
    tag: 'T',
    origin: { topic: 't', queue: 0, offset: 1 },
    messageId: 'id-bad-1',
  })
  expect(bodies(dead)).toEqual(['bad'])
})

test('a receiver gives up messages of its own, once each', async () => {
  const bench = await opened()
  send(bench, ['a', 'b', 'c'])
  const reply = await receive(bench)
  const give = (at: number) => ({ handle: handleOf(reply, at), action: 'dead_letter' })
  expect(await settle(bench, [give(2), { handle: handleOf(reply, 1) }, give(0), give(0)])).toEqual([
    [0, ''],
    [0, ''],
    [0, ''],
    [stale, ''],
  ])
  expect(await settle(bench, [give(0), give(1)])).toEqual([
    [stale, ''],
    [stale, ''],
  ])
  expect(bodies(await receive(bench, { topic: '%DLQ%g', group: 'h' }))).toEqual(['a', 'c'])
})

test('a handle that is forged, mistyped or of others settles nothing', async () => {
  const bench = await opened()
  send(bench, ['a'])
  const handle = handleOf(await receive(bench))
  const others = handleOf(await receive(bench, { group: 'h' }))
  const forged = `${handle.slice(0, 20)}${handle[20] === 'A' ? 'B' : 'A'}${handle.slice(21)}`
  const actions = [{ handle: forged }, { handle: others }, { handle: '' }, { handle, action: 'drop' }]
  expect((await settle(bench, actions)).map(([code]) => code)).toEqual([invalid, invalid, invalid, invalid])
  const tooLong = { handle, action: 'change', invisibleMs: 12 * 3_600_000 + 1 }
  expect(await settle(bench, [tooLong, { handle }])).toEqual([
    [invalid, ''],
    [0, ''],
  ])
})

test('a paused group gets nothing until it goes on; one with members is told so', async () => {
  const bench = await opened()
  send(bench, ['a'])
  setGroup(bench, { paused: true })
  expect((await receive(bench)).messages).toEqual([])
  const waiting = receive(bench, { waitMs: 20_000 })
  await settled()
  setGroup(bench, { paused: false })
  expect(bodies(await waiting)).toEqual(['a'])
  const late = receive(bench, { waitMs: 20_000 })
  await settled()
  const members = [{ member: 'm', topics: ['t'], queues: [] }]
  const join = encodeCommand({ kind: 'assign_group', group: 'g', expectedGeneration: 0, members })
  bench.replica.commit(frameTypes.command, join)
  await expect(late).rejects.toMatchObject({ code: 'INVALID_PARAMETER', message: expect.stringContaining('members') })
})

test('a leader that leads no more sends its receivers away, and a topic that is deleted does', async () => {
  const bench = await opened()
  const waiting = receive(bench, { waitMs: 20_000 })
  await settled()
  bench.replica.follow({ node: 'n1', address: 'n1:1', term: 2 })
  await expect(waiting).rejects.toMatchObject({ code: 'NOT_LEADER', facts: { leader: { node: 'n1' } } })
  await expect(settle(bench, [{ handle: 'x' }])).rejects.toMatchObject({ code: 'NOT_LEADER' })
  bench.replica.lead(3)
  const gone = receive(bench, { waitMs: 20_000 })
  await settled()
  bench.replica.commit(frameTypes.command, encodeCommand({ kind: 'delete_topic', topic: 't' }))
  await expect(gone).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
})

test('after a seek a group receives on from there, and what it had is stale', async () => {
  const bench = await opened()
  send(bench, ['a', 'b'])
  const before = await receive(bench)
  const waiting = receive(bench, { waitMs: 20_000 })
  await settled()
  const offsets = [{ topic: 't', queue: 0, offset: 1 }]
  await bench.call(brokerMethods.commitOffsets, { group: 'g', member: '', generation: 0, seek: true, offsets })
  expect(bodies(await waiting)).toEqual(['b'])
  expect(await settle(bench, [{ handle: handleOf(before, 1) }])).toEqual([[stale, '']])
})

test('who stops lets its receivers go', async () => {
  const bench = await opened()
  const waiting = receive(bench, { waitMs: 20_000 })
  await settled()
  bench.handlers.close()
  await expect(waiting).rejects.toMatchObject({ code: 'SERVICE_NOT_AVAILABLE' })
})

test('a queue that cannot be read is told of, and does not hold up the others', async () => {
  const bench = await opened(2)
  send(bench, ['lost'], 0)
  send(bench, ['good'], 1)
  const { tinyLog } = bench.replica
  const [position] = [...tinyLog.frames].find(([, frame]) => frame.bytes.includes('lost')) ?? []
  tinyLog.cold.add(position ?? -1)
  tinyLog.rotten.add(position ?? -1)
  expect(bodies(await receive(bench))).toEqual(['good'])
  await expect(receive(bench)).rejects.toMatchObject({ code: 'DATA_LOSS' })
  tinyLog.rotten.clear()
  expect(bodies(await receive(bench))).toEqual(['lost'])
})

test('bad input is refused by name', async () => {
  const bench = await opened()
  for (const fields of [
    { group: '%x' },
    { topic: '' },
    { topic: 'rmq_sys_x' },
    { topic: '%OTHER%x' },
    { maxMessages: 0 },
    { maxMessages: 1025 },
    { bytesMax: 0 },
    { waitMs: 20_001 },
    { invisibleMs: 0 },
    { invisibleMs: 12 * 3_600_000 + 1 },
    { expression: 'a | b' },
    { from: 'middle' },
    { attemptId: 'x'.repeat(65) },
  ])
    await expect(receive(bench, fields), JSON.stringify(fields)).rejects.toMatchObject({ code: 'INVALID_PARAMETER' })
  await expect(receive(bench, { topic: 'unknown' })).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST' })
  await expect(settle(bench, [])).rejects.toMatchObject({ code: 'INVALID_REQUEST' })
})

test('more receivers than may be served are refused at once', async () => {
  const bench = await openBench({ receivesMax: 1 })
  bench.topic('t', 1)
  const waiting = receive(bench, { waitMs: 20_000 })
  await settled()
  await expect(receive(bench)).rejects.toMatchObject({ code: 'FLOW_CONTROL' })
  send(bench, ['a'])
  expect(bodies(await waiting)).toEqual(['a'])
})

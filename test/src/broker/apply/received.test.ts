/** Messages received one by one: who has them, what a receipt is worth, what is committed. */
import { expect, test } from 'vitest'
import type { Receive, SettledMessage } from '../../../../src/broker/apply/receive-commands.ts'
import { attemptsPerQueueMax } from '../../../../src/broker/apply/receive-rules.ts'
import { receivedPerQueueMax } from '../../../../src/broker/apply/received.ts'
import { invisibleMsMax } from '../../../../src/broker/apply/receiving.ts'
import type { ApplyResult } from '../../../../src/broker/contract.ts'
import { encodeBatch } from '../../../../src/message/batch.ts'
import { deliveryExtension } from '../../../../src/message/extensions.ts'
import { deadLetterTopicOf } from '../../../../src/message/system-topics.ts'
import { batchKinds, codecs } from '../../../../src/message/types.ts'
import { frameTypes } from '../../../../store/index.ts'
import { seededNumbers } from '../../../support/seeded-numbers.ts'
import { ModelQueue } from './received-model.ts'
import { Bench, producerId, readAll } from './support.ts'

const minuteMs = 60_000

function command(topicId: number, fields: Partial<Receive> = {}): Receive {
  const first = fields.first ?? []
  return {
    kind: 'receive',
    group: 'g',
    topicId,
    queue: 0,
    attemptId: '',
    invisibleMs: minuteMs,
    first,
    again: [],
    waiting: [],
    cursor: (first.at(-1)?.offset ?? -1) + 1,
    start: 0,
    ordered: false,
    ...fields,
  }
}

/** Messages without a message group. */
function plain(...offsets: readonly number[]): Receive['first'] {
  return offsets.map((offset) => ({ offset, orderHash: 0 }))
}

function receiptOf(result: ApplyResult): number {
  if (result.kind !== 'received') throw new Error(`not received: ${JSON.stringify(result)}`)
  return result.receipt
}

function settled(topicId: number, offset: number, receipt: number, invisibleMs: number | null = null): SettledMessage {
  return { topicId, queue: 0, offset, receipt, invisibleMs }
}

function settle(bench: Bench, ...messages: readonly SettledMessage[]): ApplyResult {
  return bench.command({ kind: 'settle', group: 'g', messages })
}

function deadLetters(
  bench: Bench,
  topicId: number,
  offsets: readonly number[],
  receipts: readonly number[],
): ApplyResult {
  const source = { group: 'g', topicId, queue: 0, offsets, member: '', generation: 0, receipts }
  const batch = encodeBatch({
    codec: codecs.none,
    kind: batchKinds.internal,
    firstOfProducer: false,
    producerId: producerId(0),
    producerEpoch: 0,
    baseSequence: 0,
    baseBornTime: 1,
    topic: deadLetterTopicOf('g'),
    queue: 0,
    bornHost: '',
    extensions: [deliveryExtension({ kind: 'dead_letters', source })],
    records: offsets.map((offset) => ({
      bornDelta: 0,
      messageId: `M${offset}`,
      tag: '',
      keys: [],
      messageGroup: '',
      deliveryTime: 0,
      attempt: 1,
      origin: { topic: 't', queue: 0, offset },
      flags: 0,
      traceParent: '',
      properties: {},
      body: Buffer.from('x'),
    })),
  })
  return bench.feed(frameTypes.batch, batch)
}

async function benchWith(records: number): Promise<{ readonly bench: Bench; readonly topicId: number }> {
  const bench = await Bench.open()
  const topicId = bench.topic('t')
  if (records > 0) bench.send({ topic: 't', records })
  return { bench, topicId }
}

const refused = (code: string): object => ({ kind: 'refused', code })

test('a message is with one receiver until its time is over by log time', async () => {
  const { bench, topicId } = await benchWith(2)
  const first = bench.command(command(topicId, { first: plain(0, 1) }))
  expect(first).toMatchObject({ kind: 'received', visibleAt: bench.time + minuteMs })
  expect(bench.command(command(topicId, { again: [0], cursor: 2 }))).toMatchObject(refused('SUPERSEDED'))
  expect(bench.command(command(topicId, { first: plain(0) }))).toMatchObject(refused('SUPERSEDED'))
  bench.time += minuteMs
  const again = bench.command(command(topicId, { again: [0], cursor: 2 }))
  expect(again).toMatchObject({ kind: 'received', messages: [{ offset: 0, attempt: 2 }] })
  expect(settle(bench, settled(topicId, 0, receiptOf(first)))).toMatchObject({ done: [false] })
  // Nobody has received it since: its receiver is late, and still the only one.
  expect(settle(bench, settled(topicId, 1, receiptOf(first)))).toMatchObject({ done: [true] })
})

test('a change of the invisible time makes a new receipt, counted from its entry, and the old one stale', async () => {
  const { bench, topicId } = await benchWith(1)
  const receipt = receiptOf(bench.command(command(topicId, { first: plain(0) })))
  const changed = settle(bench, settled(topicId, 0, receipt, 1))
  expect(changed).toMatchObject({ kind: 'settled', done: [true], receipt: bench.log.length })
  expect(settle(bench, settled(topicId, 0, receipt))).toMatchObject({ done: [false] })
  expect(bench.command(command(topicId, { again: [0], cursor: 1 }))).toMatchObject(refused('SUPERSEDED'))
  bench.time += 1
  expect(bench.command(command(topicId, { again: [0], cursor: 1 }))).toMatchObject({ messages: [{ attempt: 2 }] })
  expect(settle(bench, settled(topicId, 0, bench.log.length, invisibleMsMax + 1))).toMatchObject(
    refused('INVALID_PARAMETER'),
  )
})

test('B5: the lowest message that is not consumed is what the group has committed', async () => {
  const { bench, topicId } = await benchWith(4)
  const receipt = receiptOf(bench.command(command(topicId, { first: plain(1, 2), cursor: 4 })))
  const committed = (): number | undefined => bench.machine.committedOffset('g', topicId, 0)
  expect(committed()).toBe(1)
  settle(bench, settled(topicId, 2, receipt))
  expect(committed()).toBe(1)
  settle(bench, settled(topicId, 1, receipt))
  expect(committed()).toBe(4)
})

test('the newest receives are remembered by the name that they gave themselves', async () => {
  const { bench, topicId } = await benchWith(attemptsPerQueueMax + 2)
  for (let offset = 0; offset < attemptsPerQueueMax + 2; offset++)
    bench.command(command(topicId, { first: plain(offset), attemptId: `a${offset}` }))
  bench.command(command(topicId, { cursor: attemptsPerQueueMax + 2, attemptId: 'a5' }))
  bench.command(command(topicId, { cursor: attemptsPerQueueMax + 2 }))
  await bench.flush()
  await bench.restart()
  const attempts = bench.machine.received.find('g', { topicId, queue: 0 })?.attempts ?? []
  expect(attempts).toHaveLength(attemptsPerQueueMax)
  expect(attempts[0]?.attemptId).toBe('a2')
  expect(attempts.filter(({ attemptId }) => attemptId === 'a5')).toEqual([
    { attemptId: 'a5', receipt: bench.log.length - 1 },
  ])
})

test('a message group is with one receiver at a time and keeps its order', async () => {
  const { bench, topicId } = await benchWith(6)
  const inGroup = (...offsets: readonly number[]): Receive['first'] =>
    offsets.map((offset) => ({ offset, orderHash: 7 }))
  const ordered = { ordered: true, cursor: 4 }
  const receipt = receiptOf(bench.command(command(topicId, { ...ordered, first: [...inGroup(0, 1), ...plain(2)] })))
  const next = { ordered: true, first: inGroup(4), cursor: 5 }
  expect(bench.command(command(topicId, next))).toMatchObject(refused('SUPERSEDED'))
  // The first one is given back at once; the second one is with its receiver, who may be working on it.
  settle(bench, settled(topicId, 0, receipt, 0))
  expect(bench.command(command(topicId, { ...ordered, again: [0] }))).toMatchObject(refused('SUPERSEDED'))
  expect(bench.command(command(topicId, { ...ordered, first: plain(4), cursor: 5 }))).toMatchObject({
    kind: 'received',
  })
  settle(bench, settled(topicId, 1, receipt))
  expect(bench.command(command(topicId, { ...next, first: inGroup(5), cursor: 6 }))).toMatchObject(
    refused('SUPERSEDED'),
  )
  const together = command(topicId, { ordered: true, again: [0], first: inGroup(5), cursor: 6 })
  expect(bench.command(together)).toMatchObject({
    messages: [
      { offset: 0, attempt: 2 },
      { offset: 5, attempt: 1 },
    ],
  })
})

test('there is a limit on what a group has of one queue without settling it', async () => {
  const { bench, topicId } = await benchWith(0)
  for (let sent = 0; sent <= receivedPerQueueMax; sent += 1024) bench.send({ topic: 't', records: 1024 })
  const all = Array.from({ length: receivedPerQueueMax }, (_, offset) => offset)
  const receipt = receiptOf(bench.command(command(topicId, { first: plain(...all) })))
  expect(bench.command(command(topicId, { first: plain(receivedPerQueueMax) }))).toMatchObject(refused('FLOW_CONTROL'))
  settle(bench, settled(topicId, 17, receipt))
  expect(bench.command(command(topicId, { first: plain(receivedPerQueueMax) }))).toMatchObject({ kind: 'received' })
})

test('what nobody may receive is refused with nothing changed', async () => {
  const { bench, topicId } = await benchWith(2)
  const judge = (fields: Partial<Receive>): ApplyResult => bench.command(command(topicId, fields))
  expect(judge({ topicId: 99, cursor: 0 })).toMatchObject(refused('TOPIC_NOT_EXIST'))
  expect(judge({ queue: 1 })).toMatchObject(refused('INVALID_PARAMETER'))
  expect(judge({ group: '' })).toMatchObject(refused('INVALID_PARAMETER'))
  expect(judge({ group: 'x'.repeat(256) })).toMatchObject(refused('INVALID_PARAMETER'))
  expect(judge({ invisibleMs: 0 })).toMatchObject(refused('INVALID_PARAMETER'))
  expect(judge({ invisibleMs: invisibleMsMax + 1 })).toMatchObject(refused('INVALID_PARAMETER'))
  expect(judge({ first: plain(0, 0) })).toMatchObject(refused('SUPERSEDED'))
  expect(judge({ first: plain(1, 0), cursor: 2 })).toMatchObject(refused('SUPERSEDED'))
  expect(judge({ first: plain(2) })).toMatchObject(refused('SUPERSEDED'))
  expect(judge({ again: [0] })).toMatchObject(refused('SUPERSEDED'))
  const members = [{ member: 'm', topics: ['t'], queues: [{ topicId, queue: 0 }] }]
  expect(bench.machine.received.find('g', { topicId, queue: 0 })).toBeUndefined()
  expect(bench.machine.committedOffset('g', topicId, 0)).toBeUndefined()
  bench.command({ kind: 'assign_group', group: 'g', expectedGeneration: 0, members })
  expect(judge({ first: plain(0) })).toMatchObject(refused('INVALID_PARAMETER'))
})

test('a paused group is given nothing and keeps what it has', async () => {
  const { bench, topicId } = await benchWith(2)
  const receipt = receiptOf(bench.command(command(topicId, { first: plain(0) })))
  const settings = { ...bench.machine.groupSettings.get('g'), paused: true }
  bench.command({ kind: 'set_group', group: 'g', settings })
  expect(bench.command(command(topicId, { first: plain(1) }))).toMatchObject(refused('SUPERSEDED'))
  expect(settle(bench, settled(topicId, 0, receipt))).toMatchObject({ done: [true] })
})

test('a commit by offset consumes what lies before it; a message goes to the dead letters once', async () => {
  const { bench, topicId } = await benchWith(4)
  const receipt = receiptOf(bench.command(command(topicId, { first: plain(0, 1, 2) })))
  const offsets = [{ topicId, queue: 0, offset: 2 }]
  bench.command({ kind: 'commit_offsets', group: 'g', member: '', generation: 0, seek: false, offsets, leased: false })
  expect(settle(bench, settled(topicId, 1, receipt))).toMatchObject({ done: [false] })
  expect(deadLetters(bench, topicId, [2, 2], [receipt, receipt])).toMatchObject(refused('INVALID_PARAMETER'))
  expect(deadLetters(bench, topicId, [1, 2], [receipt, receipt])).toMatchObject(refused('RECEIPT_STALE'))
  expect(deadLetters(bench, topicId, [2], [])).toMatchObject(refused('INVALID_PARAMETER'))
  expect(deadLetters(bench, topicId, [2], [receipt])).toMatchObject({ kind: 'stored', baseOffset: 0, recordCount: 1 })
  expect(deadLetters(bench, topicId, [2], [receipt])).toMatchObject(refused('RECEIPT_STALE'))
  expect(bench.machine.committedOffset('g', topicId, 0)).toBe(3)
  const topic = bench.machine.topic(deadLetterTopicOf('g'))
  // The routes get to know the topic that the first one made.
  expect(bench.machine.topicsVersion).toBe(topic?.topicId)
  expect(bench.machine.queueRange(topic?.topicId ?? 0, 0)).toEqual({ min: 0, max: 1 })
})

test.each(Array.from({ length: 12 }, (_, seed) => seed + 1))(
  'B1, B5: random operations are what the simple model says, across restarts (seed %i)',
  async (seed) => {
    const run = await RandomRun.begin(seed)
    for (let step = 0; step < 250; step++) await run.step()
    const twin = await run.bench.twin()
    expect(twin.machine.hash).toBe(run.bench.machine.hash)
    expect(await readAll(twin.machine, ['g'])).toEqual(await readAll(run.bench.machine, ['g']))
    expect(run.granted).toBeGreaterThan(20)
    expect(run.refusals).toBeGreaterThan(10)
  },
)

/** One group, one topic of two queues that is deleted now and then. */
class RandomRun {
  readonly bench: Bench
  readonly #next: () => number
  #queues = [new ModelQueue(), new ModelQueue()]
  #topicId: number
  #topics = 1
  #generation = 0
  granted = 0
  refusals = 0

  private constructor(bench: Bench, seed: number) {
    this.bench = bench
    this.#next = seededNumbers(seed)
    this.#topicId = bench.topic('t1', 2)
  }

  static async begin(seed: number): Promise<RandomRun> {
    return new RandomRun(await Bench.open(), seed)
  }

  async step(): Promise<void> {
    const queue = this.#below(2)
    const dice = this.#next()
    this.bench.time += this.#below(3) === 0 ? this.#below(20) : 0
    if (dice < 0.25) this.bench.send({ topic: `t${this.#topics}`, queue, records: 1 + this.#below(4) })
    else if (dice < 0.6) this.#receive(queue)
    else if (dice < 0.85) this.#settle(queue)
    else if (dice < 0.88) this.#deadLetter()
    else if (dice < 0.91) this.#commit(queue, this.#next() < 0.5)
    else if (dice < 0.94) this.#trim(queue)
    else if (dice < 0.95) this.#deleteTopic()
    else if (dice < 0.96) this.#borrow()
    else if (dice < 0.98) await this.bench.flush()
    else await this.#restart()
    this.#compare()
  }

  #receive(queue: number): void {
    const model = this.#queues[queue]!
    const { min, max } = this.#range(queue)
    const start = Math.max(min, model.committed ?? this.#below(max + 1))
    const from = model.known ? model.cursor : start
    const cursor = Math.min(max + (this.#next() < 0.05 ? 1 : 0), from + this.#below(5) - (this.#next() < 0.1 ? 1 : 0))
    const offsets = Array.from({ length: Math.max(0, cursor - from) }, (_, at) => from + at)
    const unseen = offsets
      .filter(() => this.#next() < 0.8)
      .map((offset) => ({ offset, orderHash: offset % 3 }))
      .slice(this.#next() < 0.05 ? 1 : 0)
    const waiting = unseen.filter(() => this.#next() < 0.2)
    const first = unseen.filter((message) => !waiting.includes(message) || this.#next() < 0.02)
    // Mostly those that are visible, sometimes one that is not.
    const again = model
      .held()
      .filter(({ visibleAt }) => (visibleAt <= this.bench.time ? this.#next() < 0.8 : this.#next() < 0.05))
      .map(({ offset }) => offset)
    const received: Receive = {
      kind: 'receive',
      group: 'g',
      topicId: this.#topicId,
      queue,
      attemptId: this.#next() < 0.5 ? `a${this.#below(5)}` : '',
      invisibleMs: 1 + this.#below(30),
      first,
      again,
      waiting,
      cursor: Math.max(0, cursor),
      start,
      ordered: this.#next() < 0.5,
    }
    const before = new Map(model.held().map(({ offset, attempt }) => [offset, attempt]))
    const allowed = model.mayReceive(received, { start, max, time: this.bench.time })
    const result = this.bench.command(received)
    expect(result.kind).toBe(allowed ? 'received' : 'refused')
    if (result.kind !== 'received') {
      this.refusals += 1
      return
    }
    this.granted += 1
    model.receive(received, start, { index: result.receipt, time: this.bench.time })
    for (const { offset, attempt } of result.messages) expect(attempt).toBe((before.get(offset) ?? 0) + 1)
  }

  #settle(queue: number): void {
    const model = this.#queues[queue]!
    const held = model.held().filter(() => this.#next() < 0.5)
    const messages = held.map(({ offset, receipt }) => ({
      topicId: this.#topicId,
      queue,
      offset: offset + (this.#next() < 0.05 ? 1 : 0),
      receipt: receipt - (this.#next() < 0.1 ? 1 : 0),
      invisibleMs: this.#next() < 0.4 ? this.#below(30) : null,
    }))
    const result = this.bench.command({ kind: 'settle', group: 'g', messages })
    const entry = { index: this.bench.log.length, time: this.bench.time }
    const done = messages.map((message) => model.settle(message, entry))
    this.refusals += done.filter((one) => !one).length
    expect(result).toEqual({ kind: 'settled', done, receipt: entry.index })
  }

  #deadLetter(): void {
    const model = this.#queues[0]!
    const [one] = model.held()
    if (!one) return
    const receipt = one.receipt - (this.#next() < 0.3 ? 1 : 0)
    const result = deadLetters(this.bench, this.#topicId, [one.offset], [receipt])
    const entry = { index: this.bench.log.length, time: this.bench.time }
    const taken = model.settle({ ...settled(this.#topicId, one.offset, receipt) }, entry)
    expect(result.kind).toBe(taken ? 'stored' : 'refused')
  }

  #commit(queue: number, seek: boolean): void {
    const model = this.#queues[queue]!
    const { min, max } = this.#range(queue)
    const offset = min + this.#below(max - min + 1)
    const offsets = [{ topicId: this.#topicId, queue, offset }]
    this.bench.command({ kind: 'commit_offsets', group: 'g', member: '', generation: 0, seek, offsets, leased: false })
    if (seek) model.seek(offset)
    else {
      model.committed = Math.max(model.committed ?? 0, offset)
      if (model.known) model.consumeTo(model.committed)
    }
  }

  #trim(queue: number): void {
    const { min, max } = this.#range(queue)
    const minOffset = min + this.#below(Math.min(3, max - min + 1))
    this.bench.command({ kind: 'trim', firstIndex: 0, queues: [{ topicId: this.#topicId, queue, minOffset }] })
    const model = this.#queues[queue]!
    if (model.known) model.consumeTo(minOffset)
  }

  #deleteTopic(): void {
    this.bench.command({ kind: 'delete_topic', topic: `t${this.#topics}` })
    this.#topics += 1
    this.#topicId = this.bench.topic(`t${this.#topics}`, 2)
    this.#queues = [new ModelQueue(), new ModelQueue()]
  }

  /** Members consume for a moment: nothing stays received, and whoever receives later begins at the commit. */
  #borrow(): void {
    for (const members of [[{ member: 'm', topics: [], queues: [] }], []]) {
      this.bench.command({ kind: 'assign_group', group: 'g', expectedGeneration: this.#generation, members })
      this.#generation += 1
    }
    for (const model of this.#queues) model.forget()
  }

  async #restart(): Promise<void> {
    const { hash } = this.bench.machine
    await this.bench.restart()
    expect(this.bench.machine.hash).toBe(hash)
  }

  #compare(): void {
    for (const [queue, model] of this.#queues.entries()) {
      const known = this.bench.machine.received.find('g', { topicId: this.#topicId, queue })
      expect(known?.cursor).toBe(model.known ? model.cursor : undefined)
      expect([...(known?.messages.values() ?? [])]).toEqual(model.held())
      expect(this.bench.machine.committedOffset('g', this.#topicId, queue)).toBe(model.committed)
    }
  }

  #range(queue: number): { readonly min: number; readonly max: number } {
    const range = this.bench.machine.queueRange(this.#topicId, queue)
    if (!range) throw new Error('no such queue')
    return range
  }

  #below(limit: number): number {
    return Math.floor(this.#next() * limit)
  }
}

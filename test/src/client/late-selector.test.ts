/** Sends with a selector whose route is not known yet: they are in flight like any other. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Client, openClient } from '../../../src/client/client.ts'
import type { MessageQueue, SendOptions, SendResult } from '../../../src/client/types.ts'
import { systemRandom } from '../../../src/common/clock.ts'
import type { LedgerError } from '../../../src/common/errors.ts'
import { readRecords } from '../../../src/message/batch.ts'
import { ManualClock, settle } from '../../support/manual-clock.ts'
import { addBrokers, routeOf, ScriptedTransport } from './scripted-transport.ts'

let clock: ManualClock
let transport: ScriptedTransport
let client: Client

beforeEach(async () => {
  clock = new ManualClock()
  transport = new ScriptedTransport()
  transport.route = routeOf({ a: {} })
  addBrokers(transport)
  client = await openClient({ transport, clock, random: systemRandom }, { namesrv: 'ns:1' })
  transport.namesrvUp = false
  await settle()
})

afterEach(async () => {
  const closing = client.close()
  await clock.advance(20_000)
  await closing
  expect(clock.timerCount).toBe(0)
})

const first = (queues: readonly MessageQueue[]): MessageQueue => queues[0] as MessageQueue

/** It was down, and now tells of the topic. */
function namesrvIsBack(): void {
  transport.route = routeOf({ a: {} }, { T: { a: 2 } })
  transport.namesrvUp = true
}

/** What has become of a promise, as a value. */
function outcome<Value>(promise: Promise<Value>): { value: Value | LedgerError | 'open' } {
  const state: { value: Value | LedgerError | 'open' } = { value: 'open' }
  promise.then(
    (value) => {
      state.value = value
    },
    (error) => {
      state.value = error
    },
  )
  return state
}

test('P3: flush waits for a send whose selector has no route yet', async () => {
  const producer = client.producer()
  const sent = outcome<SendResult>(producer.send({ topic: 'T', body: 'x' }, { selector: first }))
  const flushed = outcome(producer.flush())
  await clock.advance(3_000)
  expect([sent.value, flushed.value]).toEqual(['open', 'open'])
  namesrvIsBack()
  await clock.advance(3_000)
  expect(sent.value).toMatchObject({ status: 'SEND_OK', queue: { queue: 0 } })
  expect(flushed.value).toBeUndefined()
})

test('P3: close finishes a send whose selector has no route yet, or refuses it when the time is up', async () => {
  const producer = client.producer()
  const sent = outcome<SendResult>(producer.send({ topic: 'T', body: 'x' }, { selector: first }))
  const closed = outcome(producer.close())
  await clock.advance(3_000)
  expect([sent.value, closed.value]).toEqual(['open', 'open'])
  namesrvIsBack()
  await clock.advance(3_000)
  expect(sent.value).toMatchObject({ status: 'SEND_OK' })
  expect(closed.value).toBeUndefined()

  transport.namesrvUp = false
  const other = client.producer({ sendTimeoutMs: 2_000 })
  const late = outcome<SendResult>(other.send({ topic: 'U', body: 'x' }, { selector: first, timeoutMs: 60_000 }))
  const ended = outcome(other.close())
  await clock.advance(2_100)
  expect(ended.value).toBeUndefined()
  expect(late.value).toMatchObject({ code: 'CLOSED', stored: 'no' })
})

test('a send whose selector has no route waits for as long as its own call says', async () => {
  const producer = client.producer({ sendTimeoutMs: 2_000 })
  const send = (options: SendOptions): { value: SendResult | LedgerError | 'open' } =>
    outcome<SendResult>(producer.send({ topic: 'T', body: 'x' }, { selector: first, ...options }))
  const short = send({ timeoutMs: 500 })
  const long = send({ timeoutMs: 20_000 })
  await clock.advance(600)
  expect(short.value).toMatchObject({ code: 'NO_ROUTE', stored: 'no' })
  await clock.advance(9_000)
  expect(long.value).toBe('open')
  expect(producer.bufferedBytes).toBeGreaterThan(0)
  namesrvIsBack()
  await clock.advance(3_000)
  expect(long.value).toMatchObject({ status: 'SEND_OK' })
  expect(producer.bufferedBytes).toBe(0)
})

test('an aborted send, and one whose selector throws, do not hold up flush', async () => {
  const producer = client.producer()
  const stop = new AbortController()
  const given = outcome<SendResult>(producer.send({ topic: 'T', body: 'x' }, { selector: first, signal: stop.signal }))
  const flushed = outcome(producer.flush())
  await clock.advance(100)
  stop.abort()
  await clock.advance(100)
  expect(given.value).toMatchObject({ code: 'ABORTED' })
  expect(flushed.value).toBeUndefined()
  const broken = (): never => {
    throw new Error('no idea')
  }
  const failed = outcome<SendResult>(producer.send({ topic: 'T', body: 'x' }, { selector: broken }))
  const again = outcome(producer.flush())
  namesrvIsBack()
  await clock.advance(3_000)
  expect((failed.value as LedgerError).message).toContain('no idea')
  expect(again.value).toBeUndefined()
})

test('sends with a selector keep their order while the route comes', async () => {
  const producer = client.producer()
  const send = (body: string): Promise<SendResult> => producer.send({ topic: 'T', body }, { selector: first })
  const early = ['1', '2', '3'].map((body) => outcome(send(body)))
  await clock.advance(500)
  namesrvIsBack()
  for (let turn = 0; turn < 400 && early[0]?.value === 'open'; turn++) {
    early.push(outcome(send(`${early.length + 1}`)))
    await clock.advance(turn % 2 === 0 ? 0 : 10)
  }
  await clock.advance(1_000)
  for (const { value } of early) expect(value).toMatchObject({ status: 'SEND_OK' })
  const bodies = transport.produced.flatMap(({ batch }) => readRecords(batch).map(({ body }) => body.toString()))
  expect(bodies).toEqual(early.map((_, index) => `${index + 1}`))
})

test('flush ends when the topic of what waits is refused for good', async () => {
  transport.namesrvUp = true
  const producer = client.producer({ autoCreateTopics: false })
  const plain = outcome<SendResult>(producer.send({ topic: 'None', body: 'x' }))
  const selected = outcome<SendResult>(producer.send({ topic: 'None', body: 'x' }, { selector: first }))
  const flushed = outcome(producer.flush())
  await clock.advance(5_000)
  for (const { value } of [plain, selected]) expect(value).toMatchObject({ code: 'TOPIC_NOT_EXIST', stored: 'no' })
  expect(flushed.value).toBeUndefined()
})

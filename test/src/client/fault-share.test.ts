/** Two broker groups, 800 ms added to one: who gets how much, before, during and after (`updateFaultItem`, on by default). */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Client, openClient } from '../../../src/client/client.ts'
import type { Producer } from '../../../src/client/producer/producer.ts'
import { systemRandom } from '../../../src/common/clock.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { addBrokers, routeOf, ScriptedTransport } from './scripted-transport.ts'

let clock: ManualClock
let transport: ScriptedTransport
let client: Client
let addedMs = 0
/** Messages by group since the last look. */
let counts: Record<string, number>

beforeEach(async () => {
  clock = new ManualClock()
  transport = new ScriptedTransport()
  transport.route = routeOf({ a: {}, b: {} }, { T: { a: 8, b: 8 } })
  addBrokers(transport)
  addedMs = 0
  counts = { a: 0, b: 0 }
  for (const [address, broker] of transport.brokers) {
    const delayMs = (): number => 2 + (address.startsWith('a') ? addedMs : 0)
    broker.onProduce = ({ header, reply }) => {
      counts[broker.group] = (counts[broker.group] ?? 0) + header.recordCount
      clock.after(delayMs(), () => reply({}))
    }
    broker.calls.set('Probe', async () => {
      await new Promise<void>((resolve) => clock.after(delayMs(), resolve))
      return { group: broker.group, node: broker.node, leader: broker.leads }
    })
  }
  client = await openClient({ transport, clock, random: systemRandom }, { namesrv: 'ns:1' })
})

afterEach(async () => {
  const closing = client.close()
  await clock.advance(20_000)
  await closing
})

/** Sends steadily, then tells which share of the messages group a got. */
async function shareOfA(producer: Producer, ms: number, everyMs: number, burst: number): Promise<number> {
  counts = { a: 0, b: 0 }
  for (let passed = 0; passed < ms; passed += everyMs) {
    for (let index = 0; index < burst; index++) producer.sendOneway({ topic: 'T', body: 'x' })
    await clock.advance(everyMs)
  }
  return counts['a']! / (counts['a']! + counts['b']!)
}

for (const load of [
  { name: 'single messages', everyMs: 10, burst: 1 },
  { name: 'bursts', everyMs: 50, burst: 40 },
]) {
  test(`the slow group gets less than 10 % and its half back within 30 s of healing (${load.name})`, async () => {
    const producer = client.producer()
    expect(await shareOfA(producer, 2_000, load.everyMs, load.burst)).toBeCloseTo(0.5, 1)
    addedMs = 800
    await shareOfA(producer, 2_000, load.everyMs, load.burst)
    expect(await shareOfA(producer, 10_000, load.everyMs, load.burst)).toBeLessThan(0.1)
    addedMs = 0
    await shareOfA(producer, 10_000, load.everyMs, load.burst)
    const healed = await shareOfA(producer, 5_000, load.everyMs, load.burst)
    expect(healed).toBeGreaterThan(0.45)
    expect(healed).toBeLessThan(0.55)
  })
}

test('switched off, both groups keep getting messages', async () => {
  const producer = client.producer({ faultStrategy: false })
  addedMs = 100
  const share = await shareOfA(producer, 3_000, 50, 1)
  expect(share).toBeGreaterThan(0.4)
})

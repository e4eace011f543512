/** Delayed messages in the state: each is delivered once, not before its time, whatever happens in between. */
import { describe, expect, test } from 'vitest'
import type { TimerTarget } from '../../../../src/broker/apply/timers.ts'
import { delayLevelsMs, delayMsMax } from '../../../../src/message/delay-levels.ts'
import { deliveryExtension, type TimerKey } from '../../../../src/message/extensions.ts'
import { batchKinds } from '../../../../src/message/types.ts'
import { seededNumbers } from '../../../support/seeded-numbers.ts'
import { Bench, makeBatch } from './support.ts'
import { type PreparedDelivery, TimersModel } from './timers-model.ts'

async function openModel(): Promise<{ readonly model: TimersModel; readonly bench: Bench; readonly at: TimerTarget }> {
  const bench = await Bench.open()
  const model = new TimersModel(bench)
  return { model, bench, at: { topicId: model.createTopic(2), queue: 0 } }
}

/** What an honest leader would propose now for the first `count` due timers of the queue. */
async function prepare(model: TimersModel, at: TimerTarget, count: number): Promise<PreparedDelivery> {
  const page = await model.bench.machine.timers.rows.due(model.bench.time, 10_000)
  const prepared = model.prepare(page, at, count)
  if (!prepared) throw new Error('nothing is due')
  return prepared
}

/** A delivery as a leader that is wrong would make it. */
function forged(
  bench: Bench,
  at: TimerTarget,
  fields: {
    readonly sources: readonly TimerKey[]
    readonly left?: readonly TimerKey[]
    readonly after?: number
    readonly asOf?: number
    topic?: string
  },
): ReturnType<Bench['feed']> {
  const { sources, left = [], after = 0, asOf = bench.log.length, topic = 't0' } = fields
  const delivery = { kind: 'timers', topicId: at.topicId, after, asOf, left, sources } as const
  const records = Math.max(1, sources.length)
  const extensions = [deliveryExtension(delivery)]
  return bench.feed(1, makeBatch({ topic, queue: at.queue, kind: batchKinds.internal, records, extensions }))
}

async function drain(model: TimersModel): Promise<void> {
  const { bench } = model
  for (let round = 0; bench.machine.timers.pending > 0; round++) {
    if (round > 500) throw new Error(`${bench.machine.timers.pending} timers are never delivered`)
    const page = await bench.machine.timers.rows.due(bench.time, 37)
    for (const { key, place } of page.rows)
      if (!bench.machine.timers.isPending(place, key)) bench.machine.timers.rows.discard(key)
    for (const topicId of model.topicIds)
      for (let queue = 0; queue < 3; queue++) {
        const prepared = model.prepare(page, { topicId, queue }, 7)
        if (prepared) expect(model.deliver(prepared)).toMatchObject({ kind: 'stored' })
      }
  }
}

describe('delayed messages', () => {
  test('wait at the time they name, or a level after they were stored; the past is due at once', async () => {
    const { model, bench, at } = await openModel()
    const times = [bench.time + 500, 3, bench.time - 1000, 18, bench.time + delayMsMax]
    expect(model.add(at, times)).toMatchObject({ kind: 'pending', recordCount: 5, duplicate: false })
    const page = await bench.machine.timers.rows.due(bench.time + 2 * delayMsMax, 10)
    const waits = page.rows.map(({ key }) => [key.record, key.time - bench.time])
    expect(waits).toEqual([
      [2, 0],
      [0, 500],
      [1, delayLevelsMs[2]],
      [3, 7_200_000],
      [4, delayMsMax],
    ])
    expect(bench.machine.queueRange(at.topicId, 0)).toEqual({ min: 0, max: 0 })
    expect(bench.machine.timers).toMatchObject({ pending: 5 })
  })

  test('are refused without a time, and further ahead than the limit, with nothing changed', async () => {
    const { model, bench, at } = await openModel()
    expect(model.add(at, [bench.time, 0])).toMatchObject({ kind: 'refused', code: 'MESSAGE_ILLEGAL' })
    const far = bench.time + delayMsMax + 1
    expect(model.add(at, [bench.time, far])).toMatchObject({ kind: 'refused', code: 'INVALID_PARAMETER' })
    expect(bench.machine.timers).toMatchObject({ pending: 0 })
    expect(await bench.machine.timers.rows.first()).toBe(null)
  })

  test('B3: a batch that is sent again is the same timers', async () => {
    const { bench, at } = await openModel()
    const again = { topic: 't0', kind: batchKinds.delayed, times: [5, 5], producer: 1, first: true }
    const first = bench.send(again)
    bench.time += 10_000
    expect(bench.send(again)).toEqual({ ...first, duplicate: true })
    expect(bench.machine.timers.pending).toBe(2)
    expect((await bench.machine.timers.rows.due(Number.MAX_SAFE_INTEGER - 1, 10)).rows).toHaveLength(2)
    expect(at.queue).toBe(0)
  })

  test('no more of them wait than the limit, recalled ones counted until their time is passed', async () => {
    const { model, bench, at } = await openModel()
    bench.command({ kind: 'set_limits', limits: { timersMax: 3 } })
    model.add(at, [1, 1, 2])
    expect(model.add(at, [1])).toMatchObject({ code: 'FLOW_CONTROL' })
    const [recalled] = model.timers
    expect(recalled && model.recall(recalled)).toBe(true)
    expect(model.add(at, [1])).toMatchObject({ code: 'FLOW_CONTROL' })
    bench.time += 1000
    model.deliver(await prepare(model, at, 1))
    expect(bench.machine.timers.pending).toBe(1)
    expect(model.add(at, [1, 1])).toMatchObject({ kind: 'pending' })
  })
})

describe('a delivery', () => {
  test('gives the messages the next offsets of their queue, and is refused when it is made again', async () => {
    const { model, bench, at } = await openModel()
    bench.send({ topic: 't0', records: 4 })
    model.add(at, [1, 1, 1])
    bench.time += 1000
    const prepared = await prepare(model, at, 3)
    expect(model.deliver(prepared)).toMatchObject({ kind: 'stored', baseOffset: 4, recordCount: 3, duplicate: false })
    expect(model.deliver(prepared)).toMatchObject({ kind: 'refused', code: 'SUPERSEDED' })
    expect(bench.machine.queueRange(at.topicId, 0)).toEqual({ min: 0, max: 7 })
    expect(bench.machine.timers.pending).toBe(0)
  })

  test('is judged by log time, source by source', async () => {
    const { model, bench, at } = await openModel()
    model.add(at, [bench.time + 10, bench.time + 20])
    const sources = model.timers.map(({ key }) => key)
    bench.time += 19
    expect(forged(bench, at, { sources })).toMatchObject({ code: 'INVALID_PARAMETER' })
    bench.time += 1
    expect(forged(bench, at, { sources })).toMatchObject({ kind: 'stored' })
  })

  test('that is not honest is refused: no order, twice the same, no source, none of its queue, from the future', async () => {
    const { model, bench, at } = await openModel()
    model.add(at, [1, 2])
    bench.time += 10_000
    const [first, second] = model.timers.map(({ key }) => key) as [TimerKey, TimerKey]
    const wrong = [
      forged(bench, at, { sources: [second, first] }),
      forged(bench, at, { sources: [first, first] }),
      forged(bench, at, { sources: [first], asOf: bench.log.length + 1 }),
      forged(bench, at, { sources: [first], asOf: first.index - 1 }),
      forged(bench, { ...at, queue: 9 }, { sources: [first] }),
    ]
    expect(wrong.map((result) => 'code' in result && result.code)).toEqual(Array(5).fill('INVALID_PARAMETER'))
    expect(forged(bench, at, { sources: [] })).toMatchObject({ code: 'MESSAGE_ILLEGAL' })
    expect(forged(bench, at, { sources: [first], topic: 'other' })).toMatchObject({ code: 'TOPIC_NOT_EXIST' })
    expect(forged(bench, at, { sources: [first], after: 1 })).toMatchObject({ code: 'SUPERSEDED' })
    expect(bench.machine.timers.pending).toBe(2)
  })

  test('passes by a timer that came after it was made, and the next one takes it', async () => {
    const { model, bench, at } = await openModel()
    model.add(at, [bench.time + 100, bench.time + 300])
    bench.time += 500
    const prepared = await prepare(model, at, 2)
    bench.time -= 350
    model.add(at, [bench.time + 50])
    bench.time += 350
    const { isPending } = { isPending: (key: TimerKey) => bench.machine.timers.isPending(at, key) }
    expect(model.deliver(prepared)).toMatchObject({ kind: 'stored' })
    expect(model.timers.map(({ key }) => isPending(key))).toEqual([false, false, true])
    expect(model.deliver(await prepare(model, at, 1))).toMatchObject({ kind: 'stored' })
    expect(bench.machine.timers.pending).toBe(0)
  })

  test('takes timers that came late in two steps without losing those of the second', async () => {
    const { model, bench, at } = await openModel()
    model.add(at, [bench.time + 1000])
    const start = bench.time
    bench.time = start + 1000
    const prepared = await prepare(model, at, 1)
    bench.time = start + 10
    model.add(at, [start + 20, start + 30, start + 40])
    bench.time = start + 1000
    model.deliver(prepared)
    model.deliver(await prepare(model, at, 1))
    expect(model.timers.map(({ key }) => bench.machine.timers.isPending(at, key))).toEqual([false, false, true, true])
    await bench.flush()
    await bench.restart()
    expect(model.timers.map(({ key }) => bench.machine.timers.isPending(at, key))).toEqual([false, false, true, true])
    model.deliver(await prepare(model, at, 2))
    expect(bench.machine.timers.pending).toBe(0)
  })

  test('of a topic that was deleted stores nothing, also when another one took its name', async () => {
    const { model, bench, at } = await openModel()
    model.add(at, [1])
    bench.time += 1000
    const prepared = await prepare(model, at, 1)
    model.deleteTopic(at.topicId)
    expect(model.deliver(prepared)).toMatchObject({ code: 'TOPIC_NOT_EXIST' })
    bench.topic('t0', 2)
    expect(model.deliver(prepared)).toMatchObject({ code: 'TOPIC_NOT_EXIST' })
    expect(bench.machine.timers.pending).toBe(0)
  })
})

describe('a delivery that leaves what cannot be read', () => {
  async function leaveSecond(): Promise<Awaited<ReturnType<typeof openModel>>> {
    const opened = await openModel()
    const { model, bench, at } = opened
    model.add(at, [1, 2, 3])
    bench.time += 10_000
    const page = await bench.machine.timers.rows.due(bench.time, 10)
    const prepared = model.prepare(page, at, 3, ({ record }) => record !== 1)
    expect(prepared && model.deliver(prepared)).toMatchObject({ kind: 'stored', recordCount: 2 })
    return opened
  }

  test('passes it by, and a later one delivers it, once; also after a restart', async () => {
    const { model, bench, at } = await leaveSecond()
    await bench.flush()
    await bench.restart()
    expect(model.timers.map(({ key }) => bench.machine.timers.isPending(at, key))).toEqual([false, true, false])
    expect(model.timers.map(({ key }) => bench.machine.timers.isLeft(at, key))).toEqual([false, true, false])
    model.add(at, [1])
    bench.time += 1000
    const both = await prepare(model, at, 2)
    expect(model.deliver(both)).toMatchObject({ kind: 'stored', recordCount: 2 })
    expect(model.deliver(both)).toMatchObject({ code: 'SUPERSEDED' })
    expect(model.timers.filter(({ key }) => bench.machine.timers.isPending(at, key))).toEqual([])
    expect(bench.machine.timers.pending).toBe(0)
  })

  test('it can be recalled, once', async () => {
    const { model, bench } = await leaveSecond()
    const left = model.timers[1]
    expect(left && [model.recall(left), model.recall(left)]).toEqual([true, true])
    expect(bench.machine.timers).toMatchObject({ pending: 0, recalledCount: 0 })
  })

  test('goes with its topic', async () => {
    const { model, bench, at } = await leaveSecond()
    model.deleteTopic(at.topicId)
    expect(model.timers.map(({ key }) => bench.machine.timers.isPending(at, key))).toEqual([false, false, false])
    expect(bench.machine.timers.pending).toBe(0)
  })

  test('is refused when it leaves what it delivers, what lies behind it, what is gone, or too much', async () => {
    const { model, bench, at } = await openModel()
    for (let number = 0; number < 3; number++) model.add(at, Array(512).fill(1))
    bench.time += 10_000
    const keys = model.timers.map(({ key }) => key) as [TimerKey, TimerKey, TimerKey]
    const last = keys.at(-1) as TimerKey
    expect(forged(bench, at, { sources: [keys[1]], left: [keys[1]] })).toMatchObject({ code: 'INVALID_PARAMETER' })
    expect(forged(bench, at, { sources: [keys[0]], left: [keys[1]] })).toMatchObject({ code: 'INVALID_PARAMETER' })
    expect(forged(bench, at, { sources: [last], left: [keys[1], keys[0]] })).toMatchObject({
      code: 'INVALID_PARAMETER',
    })
    expect(forged(bench, at, { sources: [last], left: keys.slice(0, 1025) })).toMatchObject({
      code: 'INVALID_PARAMETER',
    })
    model.recall(model.find(keys[0]))
    expect(forged(bench, at, { sources: [last], left: [keys[0]] })).toMatchObject({ code: 'SUPERSEDED' })
    expect(bench.machine.timers.pending).toBe(3 * 512 - 1)
    expect(forged(bench, at, { sources: [last], left: keys.slice(1, 1025) })).toMatchObject({ kind: 'stored' })
  })
})

test('of a deleted topic nothing is kept once nothing of it waited', async () => {
  const { model, bench, at } = await openModel()
  model.add(at, [1])
  bench.time += 10_000
  model.deliver(await prepare(model, at, 1))
  await bench.flush()
  const rowsLeft = async (): Promise<number> =>
    (await bench.store.range({ from: Buffer.of(13), to: Buffer.of(17), limit: 10 })).length
  expect(await rowsLeft()).toBe(1)
  model.deleteTopic(at.topicId)
  await bench.flush()
  expect(await rowsLeft()).toBe(0)
  const [timer] = model.timers
  expect(timer && bench.machine.timers.isPending(at, timer.key)).toBe(false)
  expect(timer && model.recall(timer)).toBe(true)
})

describe('recall', () => {
  test('takes a timer away once; a delivery that still names it is refused', async () => {
    const { model, bench, at } = await openModel()
    model.add(at, [1, 1])
    bench.time += 1000
    const prepared = await prepare(model, at, 2)
    const [first] = model.timers
    expect(first && [model.recall(first), model.recall(first)]).toEqual([true, true])
    expect(model.deliver(prepared)).toMatchObject({ code: 'SUPERSEDED' })
    expect(model.deliver(await prepare(model, at, 2))).toMatchObject({ kind: 'stored', recordCount: 1 })
    expect(bench.machine.timers).toMatchObject({ pending: 0 })
    expect(bench.results.filter(({ kind }) => kind === 'recalled')).toMatchObject([{ done: true }, { done: false }])
  })

  test('comes too late for what was delivered, before and after a restart', async () => {
    const { model, bench, at } = await openModel()
    model.add(at, [1, 2])
    bench.time += 1000
    model.deliver(await prepare(model, at, 1))
    const [first, second] = model.timers
    expect(first && model.recall(first)).toBe(true)
    expect(second && model.recall(second)).toBe(true)
    await bench.flush()
    await bench.restart()
    expect(first && model.recall(first)).toBe(true)
    expect(second && model.recall(second)).toBe(true)
    expect(bench.results.slice(-4)).toMatchObject([{ done: false }, { done: true }, { done: false }, { done: false }])
  })
})

describe('B1, B3: whatever the order', () => {
  test.each(Array.from({ length: 40 }, (_, seed) => seed))(
    'each timer is delivered once, not too early: seed %i',
    (seed) => tryAll(seed),
  )
})

async function tryAll(seed: number): Promise<void> {
  const random = seededNumbers(seed)
  const below = (count: number): number => Math.floor(random() * count)
  const bench = await Bench.open({
    schedule: async () => {
      for (let turn = below(3); turn > 0; turn--) await Promise.resolve()
    },
  })
  const model = new TimersModel(bench)
  model.createTopic(2)
  model.createTopic(3)
  const prepared: PreparedDelivery[] = []
  const target = (): TimerTarget => {
    const topicId = model.topicIds[below(model.topicIds.length)] ?? 0
    return { topicId, queue: below(2) }
  }
  const anyTimer = () => model.timers[below(model.timers.length)]
  const operations: readonly (readonly [weight: number, run: () => unknown])[] = [
    [
      8,
      () =>
        model.add(
          target(),
          Array.from({ length: 1 + below(4) }, () => someTime(bench.time, random)),
        ),
    ],
    [6, () => (bench.time += below(200))],
    [
      8,
      async () => {
        const page = await bench.machine.timers.rows.due(bench.time + below(50), 1 + below(60))
        // What is not due by the time it is applied is refused; those of another queue do not matter.
        const isUnreadable = new Set(model.timers.filter(() => random() < 0.1).map(({ key }) => JSON.stringify(key)))
        const isRead = (key: TimerKey): boolean => !isUnreadable.has(JSON.stringify(key))
        const one = model.prepare(page, target(), 1 + below(6), isRead)
        if (one) prepared.push(one)
      },
    ],
    [
      9,
      () => {
        const [one] = prepared.splice(below(prepared.length), 1)
        if (one) model.deliver(one)
        if (one && random() < 0.3) prepared.push(one)
      },
    ],
    [
      3,
      () => {
        const timer = anyTimer()
        if (timer) expect(model.recall(timer)).toBe(true)
      },
    ],
    [
      2,
      () => {
        const at = target()
        const own = model.timers.filter(
          (timer) => timer.target.topicId === at.topicId && timer.target.queue === at.queue,
        )
        const some = own.filter(() => random() < 0.4).map(({ key }) => key)
        if (some.length > 0) model.carry(at, some.slice(0, 50))
      },
    ],
    [3, () => bench.flush()],
    [
      0.5,
      async () => {
        const before = bench.machine
        await bench.restart()
        expect(bench.machine).toMatchObject({ hash: before.hash })
        expect(bench.machine.timers.pending).toBe(before.timers.pending)
        for (const { key, target: at } of model.timers)
          expect(bench.machine.timers.isPending(at, key)).toBe(before.timers.isPending(at, key))
      },
    ],
    [
      0.15,
      () => {
        const { topicId } = target()
        model.deleteTopic(topicId)
        model.createTopic(3)
      },
    ],
  ]
  const total = operations.reduce((sum, [weight]) => sum + weight, 0)
  for (let step = 0; step < 300; step++) {
    let at = random() * total
    for (const [weight, run] of operations) {
      at -= weight
      if (at >= 0) continue
      await run()
      break
    }
    expect(bench.machine.timers.pending).toBe(model.pending().length)
  }
  const view = await bench.machine.timers.rows.due(bench.time, 1_000_000)
  expect(model.rowsOf(view)).toEqual(model.viewAsOf(view.asOf, bench.time))
  bench.time += 3 * 60 * 60 * 1000
  for (const one of prepared) model.deliver(one)
  await drain(model)
  expect(model.pending()).toEqual([])
  expect(model.timers.filter(({ end }) => end === 'delivered').length).toBeGreaterThan(20)
  const twin = await bench.twin()
  expect(twin.machine.hash).toBe(bench.machine.hash)
  expect(twin.machine.timers.pending).toBe(0)
}

/** Past, near, at the same moment as others, or a level. */
function someTime(now: number, random: () => number): number {
  const at = random()
  if (at < 0.2) return 1 + Math.floor(random() * 3)
  if (at < 0.4) return Math.max(100, now - Math.floor(random() * 500))
  if (at < 0.6) return Math.ceil(now / 100) * 100
  return now + Math.floor(random() * 400)
}

/** Reading pending timers while the state machine goes on and the state store is written underneath. */
import { describe, expect, test } from 'vitest'
import type { TimerPage } from '../../../../src/broker/apply/timer-rows.ts'
import type { TimerTarget } from '../../../../src/broker/apply/timers.ts'
import { seededNumbers } from '../../../support/seeded-numbers.ts'
import { Bench } from './support.ts'
import { TimersModel } from './timers-model.ts'

/** A state store whose every call waits until it is let through. */
class Gate {
  #waiting: (() => void)[] = []
  isOpen = true

  readonly schedule = async (): Promise<void> => {
    if (!this.isOpen) await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  /** Lets one waiting call through, and everything run that follows from it. */
  async step(at = 0): Promise<void> {
    this.#waiting.splice(Math.min(at, this.#waiting.length - 1), 1)[0]?.()
    await new Promise((resolve) => setImmediate(resolve))
  }

  /** Lets all through until this is done, but for the oldest call that waits. */
  async hold<Result>(work: Promise<Result>): Promise<Result> {
    let isDone = false
    void work.finally(() => {
      isDone = true
    })
    while (!isDone) {
      if (this.#waiting.length > 1) await this.step(this.#waiting.length - 1)
      else await new Promise((resolve) => setImmediate(resolve))
    }
    return work
  }

  get waitingCount(): number {
    return this.#waiting.length
  }

  open(): void {
    this.isOpen = true
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}

async function openGated(): Promise<{ model: TimersModel; bench: Bench; gate: Gate; at: TimerTarget }> {
  const gate = new Gate()
  const bench = await Bench.open({ schedule: gate.schedule })
  const model = new TimersModel(bench)
  return { model, bench, gate, at: { topicId: model.createTopic(2), queue: 0 } }
}

/** Adds timers one after the other and lets the store have them. */
async function fill(model: TimersModel, at: TimerTarget, count: number): Promise<void> {
  for (let number = 0; number < count; number += 100)
    model.add(
      at,
      Array.from({ length: Math.min(100, count - number) }, (_, one) => model.bench.time + 10 * (number + one)),
    )
  await model.bench.flush()
}

function expectComplete(model: TimersModel, page: TimerPage, untilMs: number): void {
  const view = model.viewAsOf(page.asOf, untilMs)
  expect(model.rowsOf(page)).toEqual(view.slice(0, page.rows.length))
  expect(page.isComplete).toBe(page.rows.length === view.length)
}

describe('a page of due timers', () => {
  test('has what was added, taken and recalled while it was read from the store, and says as of which entry', async () => {
    const { model, bench, gate, at } = await openGated()
    const start = bench.time
    await fill(model, at, 2000)
    const until = start + 30_000
    gate.isOpen = false
    const reading = bench.machine.timers.rows.due(until, 1500)
    await gate.step()
    // The first rows were read: they change now, and are written before the second ones are read.
    const [first, second] = model.timers
    if (first && second) model.recall(first)
    model.add(at, [start + 15, start + 9000, start + 40_000])
    await gate.hold(bench.flush())
    model.add(at, [start + 17])
    gate.open()
    const page = await reading
    expect(page.asOf).toBe(bench.log.length)
    expect(page.rows).toHaveLength(1500)
    expectComplete(model, page, until)
  })

  test('does not claim to know an entry that was applied behind it', async () => {
    const { model, bench, gate, at } = await openGated()
    await fill(model, at, 10)
    gate.isOpen = false
    const reading = bench.machine.timers.rows.due(bench.time + 1000, 100)
    const isRead = bench.store.get(Buffer.of(1, 2, 3)).then(() => model.add(at, [1]))
    gate.open()
    const page = await reading
    await isRead
    expect(bench.log).toHaveLength(3)
    expectComplete(model, page, bench.time + 1000)
  })

  test('goes on behind another one', async () => {
    const { model, bench, at } = await openGated()
    await fill(model, at, 1200)
    model.add(at, [bench.time + 5])
    const { rows } = bench.machine.timers
    const until = bench.time + 11_000
    const first = await rows.due(until, 500)
    const second = await rows.due(until, 600, first.rows.at(-1)?.key)
    expect(first.isComplete || second.isComplete).toBe(false)
    const both = { ...second, rows: [...first.rows, ...second.rows] }
    expect(both.rows).toHaveLength(1100)
    expectComplete(model, both, until)
    // It did not forget what lies before.
    expect((await rows.due(until, 500)).rows).toEqual(first.rows)
  })

  test('is found again from its beginning after rows were deleted, and a new first one came', async () => {
    const { model, bench, at } = await openGated()
    await fill(model, at, 50)
    const { rows } = bench.machine.timers
    const start = bench.time
    expect(await rows.first()).toBe(start)
    expect(rows.notBefore).toBe(start)
    for (const timer of model.timers) model.recall(timer)
    expect(await rows.first()).toBe(null)
    expect(rows.notBefore).toBe(Number.MAX_SAFE_INTEGER)
    model.add(at, [start + 70])
    expect(rows.notBefore).toBe(start + 70)
    await bench.flush()
    expect(await rows.first()).toBe(start + 70)
    expect((await rows.due(start + 69, 10)).rows).toEqual([])
    expect(rows.notBefore).toBe(start + 70)
  })

  test('rows of a deleted topic stay until they are discarded, which is written with the next entry', async () => {
    const { model, bench, at } = await openGated()
    await fill(model, at, 5)
    model.deleteTopic(at.topicId)
    await bench.flush()
    const { rows } = bench.machine.timers
    const page = await rows.due(bench.time + 1000, 10)
    expect(page.rows).toHaveLength(5)
    for (const { key, place } of page.rows) {
      expect(bench.machine.timers.isPending(place, key)).toBe(false)
      rows.discard(key)
    }
    expect(bench.machine.unwrittenCount).toBe(0)
    expect(await rows.first()).toBe(null)
    bench.topic('another')
    await bench.flush()
    await bench.restart()
    expect(await bench.machine.timers.rows.first()).toBe(null)
  })

  test('what is written is forgotten in memory although one read follows the other without a gap', async () => {
    const { model, bench, gate, at } = await openGated()
    await fill(model, at, 5)
    const { rows } = bench.machine.timers
    gate.isOpen = false
    const old = rows.find(model.timers[0]?.key ?? { time: 0, index: 0, record: 0 })
    model.carry(
      at,
      model.timers.map(({ key }) => key),
    )
    await gate.hold(bench.flush())
    const young = rows.due(bench.time + 1000, 10)
    await gate.step()
    await old
    // Only the young one runs, which began behind the write: it shows what the store holds.
    gate.open()
    const page = await young
    expect(new Set(page.rows.map(({ place }) => place.index))).toEqual(new Set([bench.log.length]))
    expectComplete(model, page, bench.time + 1000)
  })
})

test.each(Array.from({ length: 30 }, (_, seed) => seed))(
  'pages that are read while all goes on are complete views: seed %i',
  async (seed) => {
    const random = seededNumbers(1000 + seed)
    const below = (count: number): number => Math.floor(random() * count)
    const { model, bench, gate, at } = await openGated()
    await fill(model, at, below(1200))
    gate.isOpen = false
    let flushed: Promise<void> = Promise.resolve()
    const reads: Promise<void>[] = []
    const start = bench.time
    for (let step = 0; step < 150; step++) {
      const roll = random()
      if (roll < 0.2) model.add(at, [start + below(12_000), start + below(500), 1 + below(3)])
      else if (roll < 0.3) bench.time += below(300)
      else if (roll < 0.45) {
        const timer = model.timers[below(model.timers.length)]
        if (timer) expect(model.recall(timer)).toBe(true)
      } else if (roll < 0.55) flushed = flushed.then(() => bench.flush())
      else if (roll < 0.7 && reads.length < 40) {
        const until = start + below(13_000)
        const limit = 1 + below(900)
        reads.push(bench.machine.timers.rows.due(until, limit).then((page) => expectComplete(model, page, until)))
      } else await gate.step(below(gate.waitingCount))
    }
    gate.open()
    await Promise.all(reads)
    await flushed
    expect(reads.length).toBeGreaterThan(5)
  },
)

/** When segments that the group has given up are deleted, on ports that a test decides. */
import { expect, test } from 'vitest'
import { Trimmer } from '../../../../src/broker/replica/trimmer.ts'
import { StoreError } from '../../../../store/index.ts'

/** A log of segments of ten entries; trims finish when the test says so. */
class Desk {
  readonly log = { firstIndex: 1, trim: (firstIndex: number) => this.#trim(firstIndex) }
  readonly machine = { trimmed: { firstIndex: 0, index: 0 } }
  readonly asked: number[] = []
  readonly told: number[] = []
  readonly failures: unknown[] = []
  stored = 0
  error: Error | null = null
  #finish: (() => void)[] = []
  readonly trimmer = new Trimmer({
    log: this.log,
    machine: this.machine,
    storedIndex: () => this.stored,
    trimmed: (firstIndex) => this.told.push(firstIndex),
    failed: (error) => this.failures.push(error),
  })

  decide(firstIndex: number, index: number): void {
    this.machine.trimmed = { firstIndex, index }
    this.trimmer.check()
  }

  async finish(): Promise<void> {
    for (const finish of this.#finish.splice(0)) finish()
    for (let turn = 0; turn < 10; turn++) await Promise.resolve()
  }

  async #trim(firstIndex: number): Promise<number> {
    this.asked.push(firstIndex)
    await new Promise<void>((resolve) => this.#finish.push(resolve))
    if (this.error) throw this.error
    this.log.firstIndex = firstIndex - ((firstIndex - 1) % 10)
    return this.log.firstIndex
  }
}

test('S4: nothing is deleted before the state store holds the entry that gave it up', async () => {
  const desk = new Desk()
  desk.stored = 29
  desk.decide(21, 30)
  expect(desk.asked).toEqual([])
  desk.stored = 30
  desk.trimmer.check()
  await desk.finish()
  expect(desk.asked).toEqual([21])
  expect(desk.told).toEqual([21])
})

test('one deletion runs at a time, and what was given up meanwhile follows', async () => {
  const desk = new Desk()
  desk.stored = 100
  desk.decide(11, 30)
  desk.decide(21, 31)
  desk.decide(31, 32)
  expect(desk.asked).toEqual([11])
  await desk.finish()
  expect(desk.asked).toEqual([11, 31])
  await desk.finish()
  expect(desk.told).toEqual([11, 31])
})

test('what begins in the middle of a segment is not tried for ever', async () => {
  const desk = new Desk()
  desk.stored = 100
  desk.decide(25, 30)
  await desk.finish()
  desk.trimmer.check()
  expect(desk.asked).toEqual([25])
  expect(desk.told).toEqual([21])
})

test('a failed deletion is reported; one of a log that was closed is not', async () => {
  for (const [code, count] of [
    ['STORAGE_FAILED', 1],
    ['CLOSED', 0],
  ] as const) {
    const desk = new Desk()
    desk.stored = 100
    desk.error = new StoreError(code, 'no')
    desk.decide(21, 30)
    await desk.finish()
    expect(desk.failures).toHaveLength(count)
    expect(desk.told).toEqual([])
  }
})

test('stopping waits for the deletion that runs and begins no other', async () => {
  const desk = new Desk()
  desk.stored = 100
  desk.decide(11, 30)
  let isStopped = false
  const stopping = desk.trimmer.stop().then(() => {
    isStopped = true
  })
  desk.decide(21, 31)
  await Promise.resolve()
  expect(isStopped).toBe(false)
  await desk.finish()
  await stopping
  expect(desk.asked).toEqual([11])
})

/** Giving up the log: minimums, the row that says so, and the rows that nobody reaches any more. */
import { describe, expect, test } from 'vitest'
import { planTrim } from '../../../../src/broker/retention/trim-plan.ts'
import { Bench, readQueue } from './support.ts'

/** Gives up everything before `firstIndex`, as a leader does. */
async function trim(bench: Bench, firstIndex: number): Promise<void> {
  for (const command of await planTrim(bench.machine, firstIndex)) bench.command(command)
}

/** Deletes what is garbage now; returns how many rows of queues are left. */
async function clean(bench: Bench): Promise<number> {
  for (let range = bench.machine.takeGarbage(); range; range = bench.machine.takeGarbage()) {
    let from: Buffer | null = range.from
    while (from) from = await bench.store.deleteRange(from, range.to, 3)
  }
  return (await bench.store.range({ from: Buffer.of(5), to: Buffer.of(6), limit: 1000 })).length
}

/** Topic of two queues, entry 1; entries 2 to 21 go to queue 0 and 1 in turn, two records each. */
async function filled(): Promise<{ readonly bench: Bench; readonly topicId: number }> {
  const bench = await Bench.open({ tailRowsMax: 8 })
  const topicId = bench.topic('t', 2)
  for (let number = 0; number < 20; number++) {
    bench.send({ topic: 't', queue: number % 2, records: 2 })
    if (number % 3 === 0) await bench.flush()
  }
  await bench.flush()
  return { bench, topicId }
}

describe('trim', () => {
  test('queues begin with the first batch that stays, and the log may lose what lies before it', async () => {
    const { bench, topicId } = await filled()
    await trim(bench, 11)
    expect(bench.results.at(-1)).toEqual({ kind: 'trimmed', firstIndex: 11, moved: 2 })
    expect(bench.machine.trimmed).toEqual({ firstIndex: 11, index: 22 })
    expect(bench.machine.queueRange(topicId, 0)).toEqual({ min: 10, max: 20 })
    expect(bench.machine.queueRange(topicId, 1)).toEqual({ min: 8, max: 20 })
    const indexes = [...(await readQueue(bench.machine, topicId, 0)), ...(await readQueue(bench.machine, topicId, 1))]
    expect(Math.min(...indexes.map((row) => row.index))).toBe(11)
    expect(indexes).toHaveLength(11)
  })

  test('an index in the middle of nothing, at the beginning and behind the end', async () => {
    const { bench, topicId } = await filled()
    await trim(bench, 1)
    expect(bench.machine.queueRange(topicId, 0)).toEqual({ min: 0, max: 20 })
    bench.feed(3, Buffer.alloc(0))
    await trim(bench, bench.log.length + 1)
    expect(bench.machine.queueRange(topicId, 0)).toEqual({ min: 20, max: 20 })
    expect(bench.machine.queueRange(topicId, 1)).toEqual({ min: 20, max: 20 })
    expect(await readQueue(bench.machine, topicId, 0)).toEqual([])
    expect(bench.send({ topic: 't', queue: 0 })).toMatchObject({ kind: 'stored', baseOffset: 20 })
    expect(await bench.machine.offsetByTime(topicId, 0, 0)).toBe(20)
  })

  test('B1: minimums and what was given up survive a restart and are the same on every replica', async () => {
    const { bench, topicId } = await filled()
    await trim(bench, 7)
    const { hash } = bench.machine
    const twin = await bench.twin()
    expect(twin.machine.hash).toBe(hash)
    await bench.flush()
    await bench.restart()
    expect(bench.machine).toMatchObject({ hash, trimmed: { firstIndex: 7, index: 22 } })
    expect(bench.machine.queueRange(topicId, 0)).toEqual(twin.machine.queueRange(topicId, 0))
    expect(await readQueue(bench.machine, topicId, 1)).toEqual(await readQueue(twin.machine, topicId, 1))
  })

  test('B1: a trim that other minimums go with gives another hash', async () => {
    const hashes = new Set<string>()
    for (const queues of [[], [{ topicId: 1, queue: 0, minOffset: 2 }]]) {
      const { bench } = await filled()
      bench.command({ kind: 'trim', firstIndex: 3, queues })
      hashes.add(bench.machine.hash)
    }
    expect(hashes.size).toBe(2)
  })

  test('nothing goes back: an older trim and smaller minimums change nothing', async () => {
    const { bench, topicId } = await filled()
    await trim(bench, 11)
    const older = bench.command({ kind: 'trim', firstIndex: 5, queues: [{ topicId, queue: 0, minOffset: 2 }] })
    expect(older).toEqual({ kind: 'trimmed', firstIndex: 11, moved: 0 })
    expect(bench.machine.queueRange(topicId, 0)?.min).toBe(10)
  })

  test('P1: what an older trim says of minimums is not believed', async () => {
    const { bench, topicId } = await filled()
    await trim(bench, 11)
    for (const firstIndex of [5, 11]) {
      const late = bench.command({ kind: 'trim', firstIndex, queues: [{ topicId, queue: 0, minOffset: 20 }] })
      expect(late).toEqual({ kind: 'trimmed', firstIndex: 11, moved: 0 })
    }
    expect(bench.machine.queueRange(topicId, 0)?.min).toBe(10)
  })

  test('a trim of itself, or of messages that do not exist, is refused as a whole; a deleted topic is none', async () => {
    const { bench, topicId } = await filled()
    const good = { topicId, queue: 0, minOffset: 2 }
    const refused = { kind: 'refused', code: 'INVALID_PARAMETER' }
    const beyond = { topicId, queue: 1, minOffset: 21 }
    expect(bench.command({ kind: 'trim', firstIndex: 2, queues: [good, beyond] })).toMatchObject(refused)
    expect(bench.command({ kind: 'trim', firstIndex: 25, queues: [good] })).toMatchObject(refused)
    expect(bench.machine.queueRange(topicId, 0)?.min).toBe(0)
    const gone = { topicId: 999, queue: 0, minOffset: 5 }
    expect(bench.command({ kind: 'trim', firstIndex: 0, queues: [gone, good] })).toMatchObject({ moved: 1 })
    expect(bench.machine.trimmed).toEqual({ firstIndex: 0, index: 0 })
  })

  test('many queues are trimmed by several entries, and the last one gives up the log', async () => {
    const bench = await Bench.open()
    bench.command({ kind: 'set_limits', limits: { queuesPerTopicMax: 5000 } })
    const topicId = bench.topic('t', 5000)
    for (let queue = 0; queue < 5000; queue++) bench.send({ topic: 't', queue })
    const commands = await planTrim(bench.machine, 5003)
    expect(commands.map((command) => [command.firstIndex, command.queues.length])).toEqual([
      [0, 4096],
      [5003, 904],
    ])
    for (const command of commands) bench.command(command)
    expect(bench.machine.queueRange(topicId, 4999)).toEqual({ min: 1, max: 1 })
  })

  test('B5: a commit of what was trimmed meanwhile counts as the minimum; a seek there is refused', async () => {
    const { bench, topicId } = await filled()
    await trim(bench, 11)
    const commit = { kind: 'commit_offsets', group: 'g', member: '', generation: 0 } as const
    const offsets = [{ topicId, queue: 0, offset: 4 }]
    expect(bench.command({ ...commit, seek: false, offsets })).toEqual({ kind: 'offsets', offsets: [10] })
    expect(bench.command({ ...commit, seek: true, offsets })).toMatchObject({ code: 'INVALID_PARAMETER' })
  })
})

describe('rows below the minimum', () => {
  test('go only after the state store holds the trim, and all of them', async () => {
    const { bench, topicId } = await filled()
    bench.send({ topic: 't', queue: 0 })
    const before = bench.take()
    await trim(bench, 11)
    if (before) await bench.write(before)
    expect(await clean(bench)).toBe(21)
    await bench.flush()
    expect(await clean(bench)).toBe(12)
    expect(await readQueue(bench.machine, topicId, 0)).toHaveLength(6)
    await bench.restart()
    expect(await readQueue(bench.machine, topicId, 1)).toHaveLength(6)
    expect(await clean(bench)).toBe(12)
  })

  test('are found again after a restart that came before they were deleted', async () => {
    const { bench } = await filled()
    await trim(bench, 11)
    await bench.flush()
    await bench.restart()
    expect(await clean(bench)).toBe(11)
  })

  test('of deleted topics go too, with the row that names the topic', async () => {
    const { bench } = await filled()
    bench.topic('other')
    bench.send({ topic: 'other' })
    bench.command({ kind: 'delete_topic', topic: 't' })
    await bench.flush()
    await bench.restart()
    expect(await clean(bench)).toBe(1)
    expect(await bench.store.range({ from: Buffer.of(9), to: Buffer.of(10), limit: 10 })).toEqual([])
  })

  test('P1: are no end of the queue to a plan that was on its way to them', async () => {
    const { bench, topicId } = await filled()
    await bench.restart()
    const late = planTrim(bench.machine, 5)
    bench.command({ kind: 'trim', firstIndex: 11, queues: [{ topicId, queue: 0, minOffset: 10 }] })
    const [command] = await late
    expect(command?.queues.find(({ queue }) => queue === 0)?.minOffset ?? 0).toBeLessThanOrEqual(10)
    expect(bench.machine.queueRange(topicId, 0)).toEqual({ min: 10, max: 20 })
  })

  test('are not missed by a read that was on its way to them', async () => {
    const { bench, topicId } = await filled()
    await bench.restart()
    const under = bench.machine.findRows(topicId, 0, 0, 100)
    bench.command({ kind: 'trim', firstIndex: 21, queues: [{ topicId, queue: 0, minOffset: 18 }] })
    expect(await under).toEqual([])
  })
})

/** Delayed messages outlive the log that they came with. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { encodeCommand } from '../../../../src/broker/apply/command.ts'
import { planTrim } from '../../../../src/broker/retention/trim-plan.ts'
import { carryTimers } from '../../../../src/broker/timers/carry-timers.ts'
import { copyLimits } from '../../../../src/broker/timers/copied-batch.ts'
import { StoredRecords } from '../../../../src/broker/timers/stored-records.ts'
import { systemClock } from '../../../../src/common/clock.ts'
import { LedgerError } from '../../../../src/common/errors.ts'
import { halfExtension } from '../../../../src/message/extensions.ts'
import { batchKinds } from '../../../../src/message/types.ts'
import { frameTypes } from '../../../../store/index.ts'
import { eventually } from '../../../support/eventually.ts'
import { MemoryCluster } from '../../../support/memory-cluster.ts'
import { makeBatch } from '../apply/support.ts'
import { createTopic } from '../replica/support.ts'
import { TimerBench } from './support.ts'

describe('before the log is given up', () => {
  let bench: TimerBench
  let topicId: number

  beforeEach(async () => {
    bench = await TimerBench.open()
    topicId = bench.topic('t', 4)
  })

  afterEach(() => bench.service.close())

  async function carry(firstIndex: number, leading = (): boolean => true): Promise<number> {
    const { replica } = bench
    const { log, machine } = replica
    await carryTimers(
      {
        clock: systemClock,
        log,
        machine,
        limits: copyLimits,
        leading,
        propose: (body, options) => replica.propose(frameTypes.command, body, options),
        store: (body, options) => replica.propose(frameTypes.batch, body, options),
      },
      firstIndex,
    )
    return machine.timers.carriedUpTo
  }

  /** Gives up all before this entry, as it is after the trim was applied. */
  async function trim(firstIndex: number): Promise<unknown> {
    let result: unknown
    for (const command of await planTrim(bench.replica.machine, firstIndex))
      result = bench.replica.commit(frameTypes.command, encodeCommand(command))?.result
    const { frames } = bench.replica.tinyLog
    for (const [position, { header }] of frames) if (header.index < firstIndex) frames.delete(position)
    return result
  }

  test('timers are stored once more, and delivered from there', async () => {
    bench.delay([5000, 100, 9000], { body: 'a' })
    bench.delay([5001], { body: 'b', queue: 2 })
    bench.delay([5002], { body: 'stays' })
    const firstIndex = bench.replica.commitIndex
    expect(await trim(2)).toMatchObject({ kind: 'refused', code: 'SUPERSEDED' })
    expect(await carry(firstIndex)).toBe(firstIndex - 1)
    expect(await trim(firstIndex)).toMatchObject({ kind: 'trimmed', firstIndex })
    bench.service.start()
    await bench.pass(10_000)
    const delivered = await bench.delivered(topicId)
    expect(delivered.map(({ record }) => record.body.toString())).toEqual(['a', 'a', 'stays', 'a'])
    expect(delivered.map(({ record }) => record.messageId)).toEqual(['M1', 'M0', 'M0', 'M2'])
    for (const { record, at, bornTime } of delivered) {
      expect(at - record.deliveryTime).toBeGreaterThanOrEqual(0)
      expect(at - record.deliveryTime).toBeLessThanOrEqual(100)
      expect(bornTime).toBe(1_700_000_000_000)
    }
    expect(await bench.delivered(topicId, 2)).toHaveLength(1)
    expect(bench.replica.machine.timers.pending).toBe(0)
  })

  test('what was carried is carried again, with more of them than a page holds', async () => {
    for (let number = 0; number < 5; number++) bench.delay(Array.from({ length: 1000 }, (_, one) => 60_000 + one))
    const first = bench.replica.commitIndex + 1
    expect(await carry(first)).toBe(first - 1)
    expect(await trim(first)).toMatchObject({ kind: 'trimmed' })
    const second = bench.replica.commitIndex + 1
    expect(await carry(second)).toBe(second - 1)
    expect(await trim(second)).toMatchObject({ kind: 'trimmed' })
    bench.service.start()
    bench.replica.passedMs += 70_000
    await bench.pass(300)
    expect(await bench.delivered(topicId)).toHaveLength(5000)
  })

  test('nothing is proposed when nothing waits there', async () => {
    bench.replica.commit(frameTypes.batch, makeBatch({ topic: 't', records: 10 }))
    expect(await carry(3)).toBe(0)
    expect(bench.replica.proposals).toEqual([])
  })

  test('bytes that cannot be read, or stored, keep the log where it is', async () => {
    bench.delay([60_000])
    const firstIndex = bench.replica.commitIndex + 1
    const { tinyLog } = bench.replica
    for (const position of tinyLog.frames.keys()) {
      tinyLog.cold.add(position)
      tinyLog.rotten.add(position)
    }
    await expect(carry(firstIndex)).rejects.toMatchObject({ code: 'ROTTEN' })
    tinyLog.rotten.clear()
    bench.replica.proposeError = new LedgerError('DISK_FULL', 'full')
    await expect(carry(firstIndex)).rejects.toMatchObject({ code: 'DISK_FULL' })
    expect(bench.replica.machine.timers.carriedUpTo).toBe(0)
    bench.replica.proposeError = null
    expect(await carry(firstIndex)).toBe(firstIndex - 1)
  })

  test('a leader that was deposed meanwhile does not say that all is carried', async () => {
    bench.delay([60_000])
    bench.delay([60_000], { queue: 1 })
    let left = 1
    expect(await carry(bench.replica.commitIndex + 1, () => left-- > 0)).toBe(0)
  })
})

describe('a running group', () => {
  let cluster: MemoryCluster
  afterEach(() => cluster.end())

  test('keeps delayed and half messages while its log moves on, over a restart of all', async () => {
    const segmentBytes = 64 * 1024
    const limits = { retentionRoundMs: 20, stateWriteDelayMs: 5, zeroAheadBytes: 8192 }
    const retention = { logBytesMax: 3 * segmentBytes }
    cluster = new MemoryCluster({ broker: { segmentBytes, retention, limits } })
    await cluster.start()
    const leader = cluster.replica(await cluster.leader())
    await createTopic(leader, 't')
    const send = (options: Omit<Parameters<typeof makeBatch>[0], 'topic'>): Promise<unknown> =>
      leader.propose(frameTypes.batch, [makeBatch({ topic: 't', ...options })], { timeoutMs: 60_000 })
    const inAnHour = Date.now() + 3_600_000
    await send({ kind: batchKinds.delayed, times: [inAnHour, inAnHour + 5], body: 'later' })
    await send({ kind: batchKinds.half, extensions: [halfExtension('pg')], body: 'half' })
    for (let number = 0; number < 60; number++) await send({ queue: number % 4, body: 'x'.repeat(8000) })
    await eventually('the log begins later on every replica', () =>
      cluster.nodes.every((node) => cluster.replica(node).log.firstIndex > 20),
    )
    await cluster.settled()
    for (const node of cluster.nodes) cluster.kill(node)
    await cluster.start()
    await cluster.leader()
    await cluster.settled()
    for (const node of cluster.nodes) {
      const { machine, log } = cluster.replica(node)
      const { rows } = await machine.timers.rows.due(inAnHour + 10, 10)
      expect(rows.map(({ key }) => key.time)).toEqual([inAnHour, inAnHour + 5])
      const records = new StoredRecords(log)
      for (const { place } of rows) expect((await records.read(place)).record.body.toString()).toBe('later')
      const [half] = machine.halves.pending()
      expect(half?.atIndex).toBeGreaterThanOrEqual(log.firstIndex)
      const place = { index: half?.atIndex ?? 0, position: half?.atPosition ?? 0, record: half?.atRecord ?? 0 }
      expect((await records.read(place)).record.body.toString()).toBe('half')
    }
  })
})

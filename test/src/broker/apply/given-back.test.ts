/** Messages that members give back or give up: each once, remembered only as long as it must be. */
import { describe, expect, test } from 'vitest'
import { givenBackPerQueueMax } from '../../../../src/broker/apply/given-back.ts'
import { rowKinds } from '../../../../src/broker/apply/keys.ts'
import { seededNumbers } from '../../../support/seeded-numbers.ts'
import { ConsumedBench } from './consumed-support.ts'

const { outcome } = ConsumedBench

describe('giving back', () => {
  test('makes the retry topic of the group with the first message, with one queue, and tells that topics changed', async () => {
    const group = await ConsumedBench.open()
    const { machine } = group.bench
    expect(group.giveBack([3])).toMatchObject({ kind: 'pending', queue: 0, recordCount: 1 })
    const topic = machine.topic('%RETRY%g')
    expect(topic).toMatchObject({ topicId: machine.appliedIndex, config: { readQueues: 1, writeQueues: 1 } })
    expect(machine.topicsVersion).toBe(machine.appliedIndex)
    expect(machine.timers.pending).toBe(1)
    const version = machine.topicsVersion
    group.giveBack([4])
    expect(machine.topicsVersion).toBe(version)
  })

  test('a message is taken once; asked again it is SUPERSEDED, whatever it would become', async () => {
    const group = await ConsumedBench.open()
    expect(outcome(group.giveBack([3, 5]))).toBe('pending')
    expect(outcome(group.giveBack([3]))).toBe('SUPERSEDED')
    expect(outcome(group.giveBack([5], {}, { kind: 'dead_letters' }))).toBe('SUPERSEDED')
    expect(outcome(group.giveBack([4, 5]))).toBe('SUPERSEDED')
    expect(group.has(4)).toBe(false)
    expect(group.bench.machine.timers.pending).toBe(2)
  })

  test('given up, a message lies in the dead-letter topic at once', async () => {
    const group = await ConsumedBench.open()
    const { machine } = group.bench
    expect(group.giveBack([1, 2], {}, { kind: 'dead_letters' })).toMatchObject({ kind: 'stored', baseOffset: 0 })
    expect(group.giveBack([7], {}, { kind: 'dead_letters' })).toMatchObject({ kind: 'stored', baseOffset: 2 })
    expect(machine.queueRange(machine.topic('%DLQ%g')!.topicId, 0)).toEqual({ min: 0, max: 3 })
  })

  test('only the member that owns the queue in this generation may', async () => {
    const group = await ConsumedBench.open()
    group.assign(1, { a: [0], b: [1] })
    expect(outcome(group.giveBack([1], { generation: 1 }))).toBe('ILLEGAL_GENERATION')
    expect(outcome(group.giveBack([1], { generation: 2, queue: 1 }))).toBe('ILLEGAL_GENERATION')
    expect(outcome(group.giveBack([1], { generation: 2, member: 'c' }))).toBe('ILLEGAL_GENERATION')
    expect(outcome(group.giveBack([1], { generation: 2, member: 'b', queue: 1 }))).toBe('pending')
  })

  test('what does not fit together is refused, and nothing is changed', async () => {
    const group = await ConsumedBench.open()
    expect(outcome(group.giveBack([50]))).toBe('INVALID_PARAMETER')
    expect(outcome(group.giveBack([1, 1]))).toBe('INVALID_PARAMETER')
    expect(outcome(group.giveBack([1], { receipts: [4] }))).toBe('INVALID_PARAMETER')
    expect(outcome(group.giveBack([1], {}, { topic: '%RETRY%h' }))).toBe('INVALID_PARAMETER')
    expect(outcome(group.giveBack([1], {}, { batchQueue: 1 }))).toBe('INVALID_PARAMETER')
    expect(outcome(group.giveBack([1], {}, { records: 2 }))).toBe('MESSAGE_ILLEGAL')
    expect(group.bench.machine.topic('%RETRY%g')).toBeUndefined()
    expect(group.has(1)).toBe(false)
  })

  test('by receipt, a message named twice is refused: it would be stored twice', async () => {
    const group = await ConsumedBench.open()
    group.assign(1, {})
    const { machine } = group.bench
    const received = group.bench.command({
      kind: 'receive',
      group: 'g',
      topicId: group.topicId,
      queue: 0,
      start: 0,
      first: [{ offset: 0, orderHash: 0 }],
      again: [],
      waiting: [],
      cursor: 1,
      invisibleMs: 1_000,
      ordered: false,
      attemptId: '',
    })
    expect(outcome(received)).toBe('received')
    const receipt = machine.appliedIndex
    const byReceipt = { member: '', generation: 0 }
    expect(outcome(group.giveBack([0, 0], { ...byReceipt, receipts: [receipt, receipt] }))).toBe('INVALID_PARAMETER')
    expect(outcome(group.giveBack([0], { ...byReceipt, receipts: [receipt] }))).toBe('pending')
    expect(outcome(group.giveBack([0], { ...byReceipt, receipts: [receipt] }))).toBe('RECEIPT_STALE')
  })

  test('is refused while too many messages of the queue are given back and not committed behind', async () => {
    const group = await ConsumedBench.open(1, 1)
    for (let sent = 0; sent < givenBackPerQueueMax + 1; sent += 1024) group.bench.send({ topic: 't', records: 1024 })
    for (let offset = 0; offset < givenBackPerQueueMax; offset += 1024)
      expect(outcome(group.giveBack(Array.from({ length: 1024 }, (_, at) => offset + at)))).toBe('pending')
    expect(outcome(group.giveBack([givenBackPerQueueMax]))).toBe('FLOW_CONTROL')
    group.commit(10)
    expect(outcome(group.giveBack([givenBackPerQueueMax]))).toBe('pending')
  })
})

describe('the memory of what was given back', () => {
  test('ends where the group commits: there it is done with, and giving it back again is SUPERSEDED all the same', async () => {
    const group = await ConsumedBench.open()
    group.giveBack([2, 6])
    group.commit(5)
    expect([group.has(2), group.has(6)]).toEqual([false, true])
    expect(outcome(group.giveBack([2]))).toBe('SUPERSEDED')
    expect(await group.rowCount(rowKinds.givenBack)).toBe(1)
  })

  test('ends with a seek: who goes back wants to see the messages again', async () => {
    const group = await ConsumedBench.open()
    group.giveBack([2, 6])
    const offsets = [{ topicId: group.topicId, queue: 0, offset: 1 }]
    expect(group.bench.command({ kind: 'seek_group', group: 'g', expectedGeneration: 1, offsets })).toEqual({
      kind: 'generation',
      generation: 2,
    })
    expect(outcome(group.giveBack([2], { generation: 1 }))).toBe('ILLEGAL_GENERATION')
    expect(outcome(group.giveBack([2], { generation: 2 }))).toBe('pending')
  })

  test('ends where the log is given up', async () => {
    const group = await ConsumedBench.open()
    group.giveBack([2, 6])
    const queues = [{ topicId: group.topicId, queue: 0, minOffset: 4 }]
    group.bench.command({ kind: 'trim', firstIndex: 0, queues })
    expect([group.has(2), group.has(6)]).toEqual([false, true])
  })

  test('ends where the group goes on to receive message by message', async () => {
    const group = await ConsumedBench.open()
    group.giveBack([0])
    group.assign(1, {})
    const at = { group: 'g', topicId: group.topicId, queue: 0 }
    const rest = { invisibleMs: 1_000, ordered: false, attemptId: '', again: [], waiting: [] }
    group.bench.command({ kind: 'receive', ...at, ...rest, start: 0, first: [], cursor: 3 })
    expect(group.bench.machine.committedOffset('g', group.topicId, 0)).toBe(3)
    expect(group.has(0)).toBe(false)
    expect(await group.rowCount(rowKinds.givenBack)).toBe(0)
  })

  test('ends with its topic and with its group', async () => {
    const group = await ConsumedBench.open()
    group.giveBack([2])
    expect(await group.rowCount(rowKinds.givenBack)).toBe(1)
    group.bench.command({ kind: 'delete_topic', topic: 't' })
    expect(await group.rowCount(rowKinds.givenBack)).toBe(0)
    const other = await ConsumedBench.open()
    other.giveBack([2])
    other.assign(1, {})
    other.deleteGroup()
    expect(await other.rowCount(rowKinds.givenBack)).toBe(0)
  })
})

/** What should happen, kept in the plainest way. */
class Model {
  readonly given: Set<number>[] = [new Set(), new Set()]
  readonly committed = [0, 0]
  generation = 1
  owners: string[] = ['a', 'a']

  judge(queue: number, offsets: readonly number[], by: { member: string; generation: number }): string {
    if (by.generation !== this.generation || this.owners[queue] !== by.member) return 'ILLEGAL_GENERATION'
    const done = offsets.some((offset) => offset < this.committed[queue]! || this.given[queue]!.has(offset))
    return done ? 'SUPERSEDED' : 'pending'
  }
}

test.each([1, 2, 3, 4, 5, 6])(
  'seed %i: given back once each, through commits, seeks, rebalances and restarts',
  async (seed) => {
    const random = seededNumbers(seed)
    const upTo = (count: number): number => Math.floor(random() * count)
    const group = await ConsumedBench.open(2, 40)
    const { bench } = group
    const model = new Model()
    let taken = 0
    for (let step = 0; step < 250; step++) {
      const queue = upTo(2)
      const member = model.owners[queue]!
      const by = { member: random() < 0.1 ? 'z' : member, generation: model.generation - (random() < 0.1 ? 1 : 0) }
      const choice = random()
      if (choice < 0.55) {
        const first = upTo(38)
        const offsets = random() < 0.5 ? [first] : [first, first + 1]
        const kind = random() < 0.3 ? 'dead_letters' : 'retry'
        const expected = model.judge(queue, offsets, by)
        const result = outcome(group.giveBack(offsets, { queue, ...by }, { kind }))
        expect(result).toBe(expected === 'pending' && kind === 'dead_letters' ? 'stored' : expected)
        if (expected !== 'pending') continue
        for (const offset of offsets) model.given[queue]!.add(offset)
        taken += offsets.length
      } else if (choice < 0.75) {
        const offset = model.committed[queue]! + upTo(3)
        if (offset > 40) continue
        const result = outcome(group.commit(offset, { queue, ...by }))
        if (by.generation !== model.generation || by.member !== member) {
          expect(result).toBe('ILLEGAL_GENERATION')
          continue
        }
        model.committed[queue] = offset
        for (const given of [...model.given[queue]!]) if (given < offset) model.given[queue]!.delete(given)
      } else if (choice < 0.82) {
        const offset = upTo(41)
        const offsets = [{ topicId: group.topicId, queue, offset }]
        bench.command({ kind: 'seek_group', group: 'g', expectedGeneration: model.generation, offsets })
        model.generation++
        model.committed[queue] = offset
        model.given[queue]!.clear()
      } else if (choice < 0.9) {
        model.owners = random() < 0.5 ? ['a', 'b'] : ['b', 'a']
        const [first, second] = model.owners
        group.assign(model.generation, { [first!]: [0], [second!]: [1] })
        model.generation++
      } else if (choice < 0.95) await bench.flush()
      else await bench.restart()
      bench.time += upTo(50)
    }
    const { machine } = bench
    const dead = machine.topic('%DLQ%g')
    const deadCount = dead ? machine.queueRange(dead.topicId, 0)!.max : 0
    expect(machine.timers.pending + deadCount).toBe(taken)
    for (const [queue, given] of model.given.entries())
      for (let offset = 0; offset < 40; offset++) expect(group.has(offset, queue)).toBe(given.has(offset))
    const twin = await bench.twin()
    expect(twin.machine.hash).toBe(machine.hash)
    await bench.flush()
    await bench.restart()
    expect(machine.hash).toBe(bench.machine.hash)
    for (const [queue, given] of model.given.entries())
      for (let offset = 0; offset < 40; offset++) expect(group.has(offset, queue)).toBe(given.has(offset))
  },
)

import { describe, expect, test } from 'vitest'
import { EntryError } from '../../../../src/broker/apply/command.ts'
import { encodeMembership } from '../../../../src/broker/membership/codec.ts'
import { planTrim } from '../../../../src/broker/retention/trim-plan.ts'
import { frameTypes } from '../../../../store/index.ts'
import { group as groupOf, learner } from '../membership/support.ts'
import { Bench, makeBatch, readAll } from './support.ts'

/** What the random log must meet, or it proves little. */
const everyOutcome = [
  ...['none', 'stored', 'topic', 'topic_deleted', 'offsets', 'generation', 'trimmed'],
  ...['SEQUENCE_TOO_OLD', 'UNKNOWN_PRODUCER', 'ILLEGAL_GENERATION', 'INVALID_PARAMETER', 'MESSAGE_ILLEGAL'],
  ...['TOPIC_EXISTS', 'TOPIC_NOT_EXIST', 'NO_PERMISSION'],
]
const groups = ['g0', 'g1', '__proto__']

function seeded(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** One random entry: every kind of command and batch, legal and illegal, on few names so that they meet. */
function feedRandom(bench: Bench, random: (below: number) => number): void {
  bench.time += random(3) === 0 ? random(100_000) : 0
  if (random(50) === 0) bench.term++
  const topic = ['a', 'b', '__proto__'][random(3)] as string
  const recent = bench.log.at(-1 - random(20))
  const topicId = bench.machine.topic(topic)?.topicId ?? random(20)
  const group = groups[random(3)] as string
  const queue = random(5)
  switch (random(18)) {
    case 0:
    case 1: {
      const readQueues = 1 + random(4)
      const config = { topic, readQueues, writeQueues: 1 + random(readQueues), permission: random(8) === 0 ? 4 : 6 }
      bench.command({ kind: random(2) === 0 ? 'create_topic' : 'update_topic', config })
      break
    }
    case 2:
      if (random(12) === 0) bench.command({ kind: 'delete_topic', topic })
      break
    case 3:
    case 4: {
      const { generation, members } = bench.machine.assignment(group)
      const member = random(2) === 0 ? '' : (members[0]?.member ?? 'm')
      const offsets = [{ topicId, queue, offset: random((bench.machine.queueRange(topicId, queue)?.max ?? 0) + 3) }]
      bench.command({ kind: 'commit_offsets', group, member, generation, seek: random(4) === 0, offsets })
      break
    }
    case 5: {
      const expectedGeneration = bench.machine.assignment(group).generation - (random(5) === 0 ? 1 : 0)
      const members = random(3) === 0 ? [] : [{ member: 'm', topics: [topic], queues: [{ topicId, queue: random(5) }] }]
      bench.command({ kind: 'assign_group', group, expectedGeneration: Math.max(0, expectedGeneration), members })
      break
    }
    case 6:
      bench.command({ kind: 'expire_producers', idleBefore: bench.time, removeMax: 1 + random(3) })
      break
    case 7: {
      const limits = { producersMax: 3 + random(5), producerIdleMs: 200_000 + random(1000) }
      bench.command({ kind: 'set_limits', limits })
      break
    }
    case 8:
      if (random(2) === 0) bench.feed(frameTypes.noop, Buffer.from('anything'))
      else bench.feed(frameTypes.configuration, encodeMembership(groupOf(`n0 n${1 + random(5)}`)))
      break
    case 9:
      bench.feed(frameTypes.batch, Buffer.from('no batch'))
      break
    case 10:
      if (recent?.type === frameTypes.batch) bench.feed(recent.type, recent.body)
      break
    default:
      bench.send({
        topic,
        queue,
        records: 1 + random(4),
        producer: random(12),
        epoch: random(10) === 0 ? 1 : 0,
        sequence: Math.floor(bench.log.length / 20) + random(20),
        first: random(2) === 0,
      })
  }
}

/** As the leader and its housekeeping do, up to any entry. */
async function trimRandom(bench: Bench, random: (below: number) => number): Promise<void> {
  const firstIndex = 1 + random(bench.log.length)
  for (const command of await planTrim(bench.machine, firstIndex)) bench.command(command)
}

async function clean(bench: Bench): Promise<void> {
  const range = bench.machine.takeGarbage()
  if (range) await bench.store.deleteRange(range.from, range.to, 5)
}

describe('state machine', () => {
  test.each([1, 2, 3, 4, 5])(
    'B1: a log gives the same state whatever is restarted and written when (seed %i)',
    async (seed) => {
      const random = seeded(seed)
      const bench = await Bench.open({ tailRowsMax: 8 })
      for (let number = 0; number < 1500; number++) {
        feedRandom(bench, random)
        const chance = random(100)
        if (chance < 15) await bench.flush()
        if (chance === 20) await trimRandom(bench, random)
        if (chance > 20 && chance < 25) await clean(bench)
        // Taken and lost: the process dies before the write.
        if (chance === 15) bench.take()
        if (chance >= 15 && chance < 18) await bench.restart()
      }
      const seen = new Set(bench.results.map((result) => ('code' in result ? result.code : result.kind)))
      expect([...seen]).toEqual(expect.arrayContaining(everyOutcome))
      expect(bench.results.some((result) => result.kind === 'stored' && result.duplicate)).toBe(true)
      const twin = await bench.twin()
      const expected = await readAll(twin.machine, groups)
      expect(await readAll(bench.machine, groups)).toEqual(expected)
      await bench.flush()
      await bench.restart()
      expect(await readAll(bench.machine, groups)).toEqual(expected)
      await twin.flush()
      expect(twin.store.hash).toBe(bench.store.hash)
    },
  )

  test('B1: the hash tells logs apart by any entry, its order, term, time and result', async () => {
    const hashes = new Set<string>()
    const variants: ((bench: Bench) => void)[] = [
      () => {},
      (bench) => bench.feed(frameTypes.noop, Buffer.alloc(0)),
      (bench) => bench.feed(frameTypes.configuration, encodeMembership(groupOf('n0 n1'))),
      (bench) => bench.feed(frameTypes.configuration, encodeMembership(groupOf('n0 n2'))),
      (bench) => {
        bench.term = 2
        bench.feed(frameTypes.noop, Buffer.alloc(0))
      },
      (bench) => {
        bench.time++
        bench.feed(frameTypes.noop, Buffer.alloc(0))
      },
      (bench) => bench.send({ topic: 't' }),
      (bench) => bench.send({ topic: 't', records: 2 }),
      (bench) => bench.send({ topic: 't', queue: 1 }),
      (bench) => bench.send({ topic: 'nope' }),
      (bench) => bench.send({ topic: 't', queue: 9 }),
    ]
    for (const vary of variants) {
      const bench = await Bench.open()
      bench.topic('t', 2)
      vary(bench)
      expect(bench.machine.hash).toMatch(/^[0-9a-f]{16}$/)
      hashes.add(bench.machine.hash)
    }
    expect(hashes.size).toBe(variants.length)
  })

  test('B1: the hash of a fixed log is the one every build must give', async () => {
    const bench = await Bench.open()
    bench.topic('orders', 2)
    bench.send({ topic: 'orders', records: 3 })
    bench.send({ topic: 'nope' })
    bench.command({
      kind: 'commit_offsets',
      group: 'shop',
      member: '',
      generation: 0,
      seek: false,
      offsets: [{ topicId: 1, queue: 0, offset: 2 }],
    })
    bench.command({ kind: 'assign_group', group: 'shop', expectedGeneration: 0, members: [] })
    bench.command({ kind: 'delete_topic', topic: 'orders' })
    expect(bench.machine.hash).toBe('1939706005eb3230')
  })

  test('S4: every StateBatch carries its index and hash, and applying goes on behind it', async () => {
    const bench = await Bench.open()
    bench.topic('t')
    bench.feed(frameTypes.noop, Buffer.alloc(0))
    const batch = bench.take()
    expect(batch).toMatchObject({ appliedIndex: 2, hash: bench.machine.hash })
    expect(bench.take()).toBeNull()
    await bench.restart()
    expect(bench.store.appliedIndex).toBe(0)
    await bench.flush()
    await bench.restart()
    expect(bench.store.appliedIndex).toBe(2)
    expect(bench.machine.appliedTime).toBe(bench.time)
    expect(bench.machine.topicsVersion).toBe(1)
  })

  test('S4: an entry out of order and B1: log time that goes back stop the process', async () => {
    const bench = await Bench.open()
    const entry = { index: 2, term: 1, type: frameTypes.noop, storeTime: 5, body: Buffer.alloc(0), position: 0 }
    expect(() => bench.machine.apply(entry)).toThrow(/S4/)
    bench.machine.apply({ ...entry, index: 1 })
    expect(() => bench.machine.apply({ ...entry, index: 1 })).toThrow(/S4/)
    expect(() => bench.machine.apply({ ...entry, storeTime: 4 })).toThrow(/B1/)
    expect(() => bench.machine.changesWritten(1)).toThrow(/S4/)
  })

  test.each([
    ['an unknown command', frameTypes.command, Buffer.from('08631001', 'hex')],
    ['a newer version of the membership', frameTypes.configuration, Buffer.from('0802', 'hex')],
    ['a newer version of a command', frameTypes.command, Buffer.from('08011002', 'hex')],
    ['a malformed command', frameTypes.command, Buffer.from('ff', 'hex')],
    ['an unknown type of entry', 9 as typeof frameTypes.command, Buffer.alloc(0)],
    ['a newer batch format', frameTypes.batch, newerBatch()],
  ])('%s stops the replica before anything changed', async (_, type, body) => {
    const bench = await Bench.open()
    bench.topic('t')
    await bench.flush()
    const before = await readAll(bench.machine, groups)
    expect(() => bench.feed(type, body)).toThrow(EntryError)
    expect(await readAll(bench.machine, groups)).toEqual(before)
    expect(bench.take()).toBeNull()
  })

  test('bytes that are no batch, or more than one, are refused and use up no offset', async () => {
    const bench = await Bench.open()
    bench.topic('t')
    const good = makeBatch({ topic: 't' })
    for (const body of [Buffer.alloc(0), Buffer.from('rubbish'), good.subarray(0, -1), Buffer.concat([good, good])]) {
      expect(bench.feed(frameTypes.batch, body)).toMatchObject({ code: 'MESSAGE_ILLEGAL' })
    }
    expect(bench.send({ topic: 't' })).toMatchObject({ baseOffset: 0, index: 6 })
  })

  test('a batch to a topic that may not be written is NO_PERMISSION', async () => {
    const bench = await Bench.open()
    const config = { topic: 't', readQueues: 1, writeQueues: 1, permission: 4 }
    bench.command({ kind: 'create_topic', config })
    expect(bench.send({ topic: 't' })).toMatchObject({ code: 'NO_PERMISSION' })
    bench.command({ kind: 'update_topic', config: { ...config, permission: 6 } })
    expect(bench.send({ topic: 't' })).toMatchObject({ kind: 'stored' })
  })

  test('B1: the membership is the one of the last configuration entry, with its index, also after a restart', async () => {
    const bench = await Bench.open()
    expect(bench.machine.membership).toBeNull()
    const joint = groupOf('n0 n1', { outgoing: groupOf('n0 n1 n2').voters, learners: [learner('n3')] })
    bench.feed(frameTypes.configuration, encodeMembership(groupOf('n0 n1 n2')))
    expect(bench.feed(frameTypes.configuration, encodeMembership(joint))).toMatchObject({ kind: 'membership' })
    bench.feed(frameTypes.noop, Buffer.alloc(0))
    await bench.flush()
    await bench.restart()
    expect(bench.machine.membership).toEqual({ index: 2, membership: joint })
  })

  test('rows of another state format are not guessed at', async () => {
    const bench = await Bench.open()
    bench.topic('t')
    const batch = bench.take()
    if (!batch) throw new Error('nothing taken')
    const operations = batch.operations.map((operation) =>
      operation.key.equals(Buffer.of(1)) ? { ...operation, value: Buffer.from('08091001', 'hex') } : operation,
    )
    await bench.write({ ...batch, operations })
    await expect(bench.restart()).rejects.toThrow(/state format 9/)
  })
})

function newerBatch(): Buffer {
  const batch = makeBatch({ topic: 't' })
  batch[12] = 2
  return batch
}

import { crc32 } from 'node:zlib'
import { expect, test } from 'vitest'
import { encodeCommand } from '../../../../src/broker/apply/command.ts'
import type { Half } from '../../../../src/broker/apply/halves.ts'
import { type CarryPorts, carryHalves } from '../../../../src/broker/transactions/carry-halves.ts'
import { readHalfBatch } from '../../../../src/broker/transactions/read-half.ts'
import { silentLogger } from '../../../../src/common/logger.ts'
import { checkBatch, readRecords } from '../../../../src/message/batch.ts'
import { batchBytesMax } from '../../../../src/message/limits.ts'
import { codecs } from '../../../../src/message/types.ts'
import { frameTypes } from '../../../../store/index.ts'
import { type HalfOptions, halfBatch } from '../apply/half-batches.ts'
import { ScriptedReplica } from '../scripted-replica.ts'

async function openReplica(): Promise<ScriptedReplica> {
  const replica = await ScriptedReplica.open()
  const config = { topic: 't', readQueues: 2, writeQueues: 2, permission: 6 }
  replica.commit(frameTypes.command, encodeCommand({ kind: 'create_topic', config }))
  return replica
}

function portsOf(replica: ScriptedReplica): CarryPorts {
  return {
    log: replica.log,
    machine: replica.machine,
    logger: silentLogger,
    leading: () => replica.leading,
    store: (batch, options) => replica.propose(frameTypes.batch, batch, options),
  }
}

function open(replica: ScriptedReplica): readonly Half[] {
  return [...replica.machine.halves.pending()]
}

async function bodyOf(replica: ScriptedReplica, half: Half): Promise<string | undefined> {
  const batch = await readHalfBatch(replica, half)
  if (!batch) return undefined
  checkBatch(batch)
  return readRecords(batch)[half.atRecord]?.body.toString()
}

test('open half messages before the entry are stored once more, with all that they are, and others are not', async () => {
  const replica = await openReplica()
  const long = 'b'.repeat(300)
  replica.commit(frameTypes.batch, halfBatch({ bodies: ['a', long, 'c'], codec: codecs.zlib }))
  replica.commit(frameTypes.batch, halfBatch({ bodies: ['d'], queue: 1 }))
  const last = replica.commit(frameTypes.batch, halfBatch({ bodies: ['e'] }))
  const sources = [{ index: 2, record: 0 }]
  replica.commit(frameTypes.command, encodeCommand({ kind: 'roll_back', sources }))
  await carryHalves(portsOf(replica), last?.index ?? 0)
  expect(open(replica).map(({ index, record, atIndex, atRecord }) => [index, record, atIndex, atRecord])).toEqual([
    [2, 1, 6, 0],
    [2, 2, 6, 1],
    [3, 0, 7, 0],
    [4, 0, 4, 0],
  ])
  const bodies = await Promise.all(open(replica).map((half) => bodyOf(replica, half)))
  expect(bodies).toEqual([long, 'c', 'd', 'e'])
  // Once more, from where they lie now.
  await carryHalves(portsOf(replica), 7)
  expect(open(replica).map(({ atIndex }) => atIndex)).toEqual([8, 8, 7, 9])
})

/** Of exactly the largest size that a client may send. */
function largestBatch(options: HalfOptions = {}): Buffer {
  const bodies = Array.from({ length: 1000 }, () => 'x'.repeat(4000))
  const missing = batchBytesMax - halfBatch({ ...options, bodies }).length
  return halfBatch({ ...options, bodies: ['y'.repeat(4000 + missing), ...bodies.slice(1)] })
}

test('a batch of the largest size is carried in parts', async () => {
  const replica = await openReplica()
  const batch = largestBatch()
  expect(batch).toHaveLength(batchBytesMax)
  replica.commit(frameTypes.batch, batch)
  await carryHalves(portsOf(replica), 3)
  const places = new Set(open(replica).map(({ atIndex }) => atIndex))
  expect([...places]).toEqual([3, 4])
  const [first] = open(replica)
  if (!first) throw new Error('nothing is open')
  expect((await bodyOf(replica, first))?.startsWith('yyy')).toBe(true)
})

test('a body that cannot be unpacked stays where it is, and does not keep others', async () => {
  const replica = await openReplica()
  const broken = Buffer.from(halfBatch({ bodies: ['b'.repeat(500)], codec: codecs.zlib }))
  broken.fill(0xff, broken.length - 6)
  broken.writeUInt32LE(crc32(broken.subarray(12)), 8)
  replica.commit(frameTypes.batch, broken)
  replica.commit(frameTypes.batch, halfBatch({ bodies: ['whole'] }))
  await carryHalves(portsOf(replica), 4)
  expect(open(replica).map(({ atIndex }) => atIndex)).toEqual([2, 4])
})

test('a leader that was deposed while it read proposes nothing more', async () => {
  const replica = await openReplica()
  replica.commit(frameTypes.batch, halfBatch())
  replica.tinyLog.cold.add(open(replica)[0]?.atPosition ?? 0)
  const carrying = carryHalves(portsOf(replica), 3)
  replica.follow({ node: 'n1', address: 'n1:1', term: 2 })
  await carrying
  expect(replica.proposals).toEqual([])
})

/** The small parts of a copy: the bandwidth limit, the rows of an image, what a node gives and to whom. */
import { afterEach, expect, test } from 'vitest'
import { decodeRows, encodeRows, RowProof } from '../../../../../src/broker/replica/catch-up/state-rows.ts'
import { TokenBucket } from '../../../../../src/broker/replica/catch-up/token-bucket.ts'
import { raftMethods } from '../../../../../src/rpc/methods.ts'
import { type StateRow, splitFrames } from '../../../../../store/index.ts'
import { eventually } from '../../../../support/eventually.ts'
import { ManualClock, settle } from '../../../../support/manual-clock.ts'
import { MemoryCluster } from '../../../../support/memory-cluster.ts'
import { codeOf } from '../support.ts'
import { fill, smallSegmentBytes } from './support.ts'

let cluster: MemoryCluster | null = null

afterEach(() => cluster?.end())

test('a token bucket keeps its rate and saves up no more than a tenth of a second', async () => {
  const clock = new ManualClock()
  const bucket = new TokenBucket(clock, 1000)
  await clock.advance(60_000)
  await bucket.take(100)
  let paid = 0
  for (let n = 0; n < 5; n++) void bucket.take(100).then(() => paid++)
  for (let turn = 1; turn <= 5; turn++) {
    await clock.advance(100)
    await settle()
    expect(paid).toBe(turn)
  }
})

test('rows of an image come back as they were, and a changed, missing or doubled piece is noticed', () => {
  const pieces: StateRow[][] = [
    [
      [Buffer.from('a'), Buffer.from('1')],
      [Buffer.from('b'), Buffer.alloc(0)],
    ],
    [[Buffer.from('c'), Buffer.alloc(3000, 7)]],
  ]
  const sent = new RowProof()
  const replies = pieces.map((rows) => {
    const bytes = encodeRows(rows)
    sent.add(bytes, rows.length)
    const { checksum, rowCount } = sent
    return { appliedIndex: 1, hash: 'h', rows: bytes, checksum, rowCount, last: false }
  })
  const [first, second] = replies
  if (!first || !second) throw new Error('two pieces')
  const proof = new RowProof()
  expect(decodeRows(first, proof)).toEqual(pieces[0])
  expect(decodeRows(second, proof)).toEqual(pieces[1])
  expect(() => decodeRows(second, new RowProof())).toThrow('rows, ')
  expect(() => decodeRows(second, proof)).toThrow('rows, ')
  const changed = Buffer.from(first.rows)
  changed.writeUInt8(0x7a, 8)
  expect(() => decodeRows({ ...first, rows: changed }, new RowProof())).toThrow('checksum')
  expect(() => decodeRows({ ...first, rows: first.rows.subarray(0, 12) }, new RowProof())).toThrow('within a row')
})

test('only who would be let in may copy, and gets committed entries as they lie on disk', async () => {
  cluster = new MemoryCluster({ broker: { segmentBytes: smallSegmentBytes } })
  await cluster.start()
  const leader = await cluster.leader()
  await fill(cluster.replica(leader), 't', 100)
  await cluster.settled()
  const [a, b] = cluster.nodes.filter((node) => node !== leader) as [string, string]
  const target = cluster.replica(a).members.others.find(({ node }) => node === b)
  if (!target) throw new Error('no peer')
  const hello = cluster.replica(a).members.hello(target)
  const channel = cluster.network.endpoint('test').connect(`${b}:30912`, 'bulk')
  const range = { fromIndex: 2, toIndex: 50, bytesMax: 1024 * 1024, uncommitted: false }
  const options = { timeoutMs: 1000 }
  const forged = { ...hello, fromDisk: 'another' }
  expect(await codeOf(channel.call(raftMethods.fetchLog, { ...range, hello: forged }, options))).toBe('NOT_A_MEMBER')
  expect(await codeOf(channel.call(raftMethods.fetchLog, range, options))).toBe('INVALID_REQUEST')
  expect(await codeOf(channel.call(raftMethods.describeLog, { hello: forged }, options))).toBe('NOT_A_MEMBER')
  const described = await channel.call(raftMethods.describeLog, { hello }, options)
  expect(described).toMatchObject({ firstIndex: 1, lastIndex: cluster.replica(b).commitIndex, leads: false })
  const reply = await channel.call(raftMethods.fetchLog, { ...range, hello }, options)
  expect(splitFrames(reply.frames).map(({ header }) => header.index)).toEqual(
    Array.from({ length: 49 }, (_, n) => n + 2),
  )
  const beyond = { ...range, hello, fromIndex: described.lastIndex + 1, toIndex: described.lastIndex + 9 }
  expect((await channel.call(raftMethods.fetchLog, beyond, options)).frames).toHaveLength(0)
  const small = await channel.call(raftMethods.fetchLog, { ...range, hello, bytesMax: 1 }, options)
  expect(splitFrames(small.frames)).toHaveLength(1)
})

test('a node holds at most two images at once, and lets go of one when its stream ends', async () => {
  cluster = new MemoryCluster({ broker: { segmentBytes: smallSegmentBytes } })
  await cluster.start()
  const leader = await cluster.leader()
  await fill(cluster.replica(leader), 't', 20)
  await cluster.settled()
  const [a, b] = cluster.nodes.filter((node) => node !== leader) as [string, string]
  const target = cluster.replica(a).members.others.find(({ node }) => node === b)
  if (!target) throw new Error('no peer')
  await eventually('the state is written', () => (cluster?.replica(b).copySource([]).appliedIndex ?? 0) > 0)
  const hello = cluster.replica(a).members.hello(target)
  const channel = cluster.network.endpoint('test').connect(`${b}:30912`, 'bulk')
  const open = (): { replies: number; code: string; cancel(): void } => {
    const seen = { replies: 0, code: '', cancel: () => sink.cancel() }
    const sink = channel.open(raftMethods.fetchState, {
      onMessage: () => {
        seen.replies++
      },
      onClosed: (error) => {
        seen.code = error?.code ?? 'ended'
      },
    })
    sink.write({ hello, bytesMax: 10 })
    return seen
  }
  const streams = [open(), open(), open()]
  await eventually(
    'two are served, one is not',
    () =>
      streams.filter(({ code }) => code === 'FLOW_CONTROL').length === 1 &&
      streams.filter(({ replies }) => replies === 1).length === 2,
  )
  streams.find(({ code }) => code === '')?.cancel()
  await eventually('there is room again', () => {
    const next = open()
    streams.push(next)
    return streams.some(({ replies }, at) => at > 2 && replies > 0)
  })
})

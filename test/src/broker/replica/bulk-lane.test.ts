/** The way of log entries to one peer, over a real log and a stream that only takes notes. */
import { expect, test } from 'vitest'
import type { Append } from '../../../../raft/index.ts'
import { BulkLane } from '../../../../src/broker/replica/bulk-lane.ts'
import { PeerLink } from '../../../../src/broker/replica/peer-link.ts'
import { systemClock, systemRandom } from '../../../../src/common/clock.ts'
import { silentLogger } from '../../../../src/common/logger.ts'
import type { Hello } from '../../../../src/rpc/methods.ts'
import { raftMethods } from '../../../../src/rpc/methods.ts'
import { decodePeerFrame, encodeHelloReply, encodePeerFrame } from '../../../../src/rpc/peer-codec.ts'
import { defaultRpcLimits } from '../../../../src/rpc/rpc-limits.ts'
import type { Channel, StreamHandlers, StreamSink } from '../../../../src/rpc/transport.ts'
import { type CommitLogApi, frameTypes, MemoryDisk, openCommitLog, splitFrames } from '../../../../store/index.ts'
import { eventually } from '../../../support/eventually.ts'

const mebibyte = 1024 * 1024
const entryCount = 12

const logOptions = {
  directory: 'log',
  segmentBytes: 64 * mebibyte,
  incarnation: 'i',
  zeroAheadBytes: mebibyte,
  flushBytesMax: 64 * mebibyte,
  tailCacheBytes: 0,
  blockCacheBytes: mebibyte,
}

const hello: Hello = {
  cluster: 'c',
  group: 'g',
  incarnation: 'i',
  fromNode: 'n0',
  fromDisk: 'd0',
  toNode: 'n1',
  toDisk: 'd1',
  fromAddress: '',
  protocolMin: 1,
  protocolMax: 1,
  build: '',
  featureLevel: 1,
  membershipIndex: 0,
  fromRaftAddress: '',
}

/** A log whose entries are on disk only, of a term each. */
async function largeEntries(): Promise<CommitLogApi> {
  const disk = new MemoryDisk()
  const log = await openCommitLog(disk, logOptions)
  const body = [Buffer.alloc(3 * mebibyte)]
  for (let index = 1; index <= entryCount; index++) {
    log.append({ index, term: index, type: frameTypes.command, storeTime: 1000, body })
  }
  await log.flush()
  await log.close()
  return openCommitLog(disk, logOptions)
}

/** Everything that leaves on the stream after the Hello; `takes` says whether the stream wants more at once. */
class Stream {
  readonly sent: Buffer[] = []
  takes = true
  #handlers: StreamHandlers<Buffer> | null = null

  readonly channel: Channel = {
    address: 'n1',
    call: () => Promise.reject(new Error('nobody calls')),
    open: (_method, handlers) => {
      this.#handlers = handlers as StreamHandlers<never>
      return this.#sink as StreamSink<unknown>
    },
    close: () => {},
  }

  readonly #sink: StreamSink<Buffer> = {
    write: (bytes) => {
      this.sent.push(bytes)
      return this.takes
    },
    end: () => {},
    cancel: () => {},
  }

  accept(): void {
    this.sent.length = 0
    this.#handlers?.onMessage(encodeHelloReply({ status: null, protocol: 1, build: '', featureLevel: 1 }))
  }

  drain(): void {
    this.#handlers?.onDrain?.()
  }
}

/** What the core makes of entries from before its start: their sizes are not known. */
const append: Append = {
  kind: 'append',
  from: 'n0',
  to: 'n1',
  term: 20,
  prevIndex: 0,
  prevTerm: 0,
  entries: Array.from({ length: entryCount }, (_, at) => ({ index: at + 1, term: at + 1, kind: 'normal', bytes: 0 })),
  commit: entryCount,
}

function laneTo(stream: Stream, log: CommitLogApi): { readonly lane: BulkLane; readonly link: PeerLink } {
  const link: PeerLink = new PeerLink({
    clock: systemClock,
    random: systemRandom,
    channel: stream.channel,
    method: raftMethods.bulk,
    hello: () => hello,
    up: () => {},
    lost: () => {},
    failed: () => {},
    drained: () => lane.flush(),
  })
  const lane: BulkLane = new BulkLane({
    link,
    log,
    logger: silentLogger,
    bytesMax: 32 * mebibyte,
    encode: (message, frames) =>
      encodePeerFrame({ kind: 'message', message, wallMs: 0, frames: frames.map(({ bytes }) => bytes) }),
    unreadable: () => {},
    unreachable: () => {},
  })
  link.open()
  stream.accept()
  return { lane, link }
}

/** The appends that left, with the indexes of their frames. */
function appendsIn(sent: readonly Buffer[]): { prevIndex: number; prevTerm: number; indexes: number[] }[] {
  return sent.map((bytes) => {
    const frame = decodePeerFrame(bytes, { from: 'n0', to: 'n1' })
    if (frame.kind !== 'message' || frame.message.kind !== 'append') throw new Error('no append')
    const { prevIndex, prevTerm } = frame.message
    const indexes = frame.frames.flatMap((part) => splitFrames(part)).map(({ header }) => header.index)
    return { prevIndex, prevTerm, indexes }
  })
}

test('entries of unknown size that turn out too large for one message leave in consecutive ones', async () => {
  const log = await largeEntries()
  const stream = new Stream()
  const { lane, link } = laneTo(stream, log)
  lane.send(append)
  await eventually(
    'all entries left',
    () => appendsIn(stream.sent).flatMap(({ indexes }) => indexes).length === entryCount,
  )
  expect(Math.max(...stream.sent.map(({ length }) => length))).toBeLessThan(defaultRpcLimits.peerMessageBytesMax)
  const appends = appendsIn(stream.sent)
  expect(appends.flatMap(({ indexes }) => indexes)).toEqual(append.entries.map(({ index }) => index))
  for (const { prevIndex, prevTerm, indexes } of appends) {
    expect(prevIndex).toBe((indexes[0] ?? 0) - 1)
    expect(prevTerm).toBe(prevIndex)
  }
  link.close()
  await log.close()
})

test('the rest of such entries waits while the stream is congested', async () => {
  const log = await largeEntries()
  const stream = new Stream()
  stream.takes = false
  const { lane, link } = laneTo(stream, log)
  lane.send(append)
  await eventually('the first piece left', () => stream.sent.length > 0)
  expect(stream.sent).toHaveLength(1)
  stream.drain()
  await eventually('the second piece left', () => stream.sent.length === 2)
  const [first, second] = appendsIn(stream.sent)
  expect(second?.prevIndex).toBe(first?.indexes.at(-1))
  link.close()
  await log.close()
})

/** Our hand-written codecs against the protobuf library: every message, every field, both directions. */
import type { MessageTypeDefinition } from '@grpc/proto-loader'
import { describe, expect, test } from 'vitest'
import type { PeerMessage } from '../../../raft/index.ts'
import { LedgerError } from '../../../src/common/errors.ts'
import * as envelopes from '../../../src/rpc/envelopes.ts'
import type { Hello, WireStatus } from '../../../src/rpc/methods.ts'
import * as peers from '../../../src/rpc/peer-codec.ts'
import { loadDefinition } from '../../../src/rpc/protos.ts'
import { decodeStatus, encodeStatus, fromWireStatus, toWireStatus } from '../../../src/rpc/status.ts'

const definition = loadDefinition()
const large = 2 ** 53 - 1

function library(name: string): {
  encode: (value: object) => Buffer
  decode: (bytes: Buffer) => Record<string, unknown>
} {
  const message = definition[`ledgermq.v1.${name}`] as MessageTypeDefinition<object, object>
  return { encode: message.serialize, decode: (bytes) => message.deserialize(bytes) as Record<string, unknown> }
}

function fieldNames(name: string): string[] {
  const message = definition[`ledgermq.v1.${name}`] as MessageTypeDefinition<object, object>
  return (message.type as { field: { name: string }[] }).field.map((field) => field.name)
}

const status: Required<WireStatus> = {
  code: 501,
  message: 'geh zum anderen ✓',
  hint: 'hint',
  leaderNode: 'n1',
  leaderAddress: '127.0.0.1:30921',
  term: 7,
  retryAfterMs: 20,
  minOffset: 0,
  maxOffset: large,
}

const produceReply: envelopes.ProduceReply = {
  requestId: 9,
  code: 501,
  baseOffset: 3,
  index: large,
  term: 5,
  storeTime: 1_790_000_000_000,
  duplicate: true,
  status,
}

const pullRequest: envelopes.PullRequest = {
  requestId: 1,
  cancel: true,
  topic: 'orders',
  topicId: 12,
  queue: 3,
  offset: large,
  bytesMax: 65536,
  waitMs: 20000,
  consumerGroup: 'g',
  afterIndex: large,
}

const pulled: envelopes.PulledBatch[] = [
  { baseOffset: large, index: 4, storeTime: 5, startRecord: 6, batch: Buffer.from('first') },
  { baseOffset: 8, index: large, storeTime: 2 ** 41, startRecord: 0, batch: Buffer.alloc(0) },
  { baseOffset: 2 ** 32, index: 2 ** 32 + 1, storeTime: large, startRecord: 2 ** 32 - 1, batch: Buffer.alloc(300, 1) },
]

const pullReply: envelopes.PullReply = {
  requestId: 1,
  code: 21,
  status,
  nextOffset: 2,
  minOffset: 3,
  maxOffset: 4,
  appliedIndex: 5,
  commitIndex: 6,
  appliedTime: 7,
  topicId: 8,
  suggestedNode: 'n2',
  batches: pulled,
}

const hello: Hello = {
  cluster: 'c',
  group: 'g',
  incarnation: 'i',
  fromNode: 'n0',
  fromDisk: 'd0',
  toNode: 'n1',
  toDisk: 'd1',
  fromAddress: 'a:1',
  protocolMin: 1,
  protocolMax: 2,
  build: 'b',
  featureLevel: 3,
  membershipIndex: 4,
  fromRaftAddress: 'a:2',
}

const envelope = { from: 'n0', to: 'n1', term: 9 }
const messages: PeerMessage[] = [
  { kind: 'pre_vote_request', ...envelope, lastIndex: 11, lastTerm: 3 },
  { kind: 'pre_vote_response', ...envelope, refusal: null },
  { kind: 'pre_vote_response', ...envelope, refusal: 'leader_seen' },
  { kind: 'vote_request', ...envelope, lastIndex: 11, lastTerm: 3, transfer: true },
  { kind: 'vote_request', ...envelope, lastIndex: 0, lastTerm: 0, transfer: false },
  { kind: 'vote_response', ...envelope, refusal: 'voted_for_other' },
  { kind: 'vote_response', ...envelope, refusal: null },
  { kind: 'heartbeat', ...envelope, commit: 8, round: 4, lastIndex: 9, session: large },
  { kind: 'heartbeat_response', ...envelope, round: 4, session: large, canLead: true },
  { kind: 'heartbeat_response', ...envelope, round: 4, session: large, canLead: false },
  { kind: 'append', ...envelope, prevIndex: 5, prevTerm: 2, entries: [], commit: 4 },
  { kind: 'append_response', ...envelope, matchIndex: 6, rejected: null },
  {
    kind: 'append_response',
    ...envelope,
    matchIndex: 0,
    rejected: { rejectedIndex: 9, hintIndex: 7, hintTerm: 1, hasLost: true },
  },
  { kind: 'timeout_now', ...envelope },
  { kind: 'stepped_down', ...envelope },
  { kind: 'vote_response', ...envelope, refusal: 'quarantined' },
  { kind: 'catch_up', ...envelope, firstIndex: 77 },
  { kind: 'read_request', ...envelope, context: large },
  { kind: 'read_response', ...envelope, context: large, index: 78 },
  { kind: 'read_response', ...envelope, context: 1, index: 0 },
  { kind: 'read_response', ...envelope, context: 1, index: null },
]

describe('envelopes', () => {
  test('produce requests are valid protobuf with the batch as the last bytes', () => {
    const request = { requestId: large, timeoutMs: 3000, batch: Buffer.from('the batch') }
    const bytes = envelopes.encodeProduceRequest(request)
    expect(library('ProduceRequest').decode(bytes)).toEqual(request)
    expect(bytes.subarray(-9).toString()).toBe('the batch')
    expect(envelopes.decodeProduceRequest(library('ProduceRequest').encode(request))).toEqual(request)
    expect(Object.keys(request).sort()).toEqual(fieldNames('ProduceRequest').sort())
  })

  test('the batch of a decoded request is a view, not a copy', () => {
    const bytes = envelopes.encodeProduceRequest({ requestId: 1, timeoutMs: 1, batch: Buffer.alloc(100_000, 1) })
    expect(envelopes.decodeProduceRequest(bytes).batch.buffer).toBe(bytes.buffer)
  })

  test('produce replies agree with the library in every field', () => {
    const plain = { ...produceReply, code: 0, duplicate: false, status: null }
    const bytes = envelopes.encodeProduceReplies([produceReply, plain])
    expect(library('ProduceReplies').decode(bytes)).toEqual({ replies: [produceReply, plain] })
    expect(
      envelopes.decodeProduceReplies(library('ProduceReplies').encode({ replies: [produceReply, plain] })),
    ).toEqual([produceReply, plain])
    expect(Object.keys(produceReply).sort()).toEqual(fieldNames('ProduceReply').sort())
  })

  test('pull requests agree with the library in every field', () => {
    expect(library('PullRequest').decode(envelopes.encodePullRequest(pullRequest))).toEqual(pullRequest)
    expect(envelopes.decodePullRequest(library('PullRequest').encode(pullRequest))).toEqual(pullRequest)
    expect(Object.keys(pullRequest).sort()).toEqual(fieldNames('PullRequest').sort())
  })

  test('pull replies agree with the library, batches lie behind envelopes of 32 bytes', () => {
    const decoded = library('PullReply').decode(envelopes.encodePullReply(pullReply))
    const { batches, ...scalars } = decoded
    const { batches: _, ...wanted } = pullReply
    expect(scalars).toEqual(wanted)
    expect(batches).toHaveLength(3 * envelopes.pullEnvelopeBytes + 5 + 300)
    expect(envelopes.decodePullReply(library('PullReply').encode(decoded))).toEqual(pullReply)
    expect(Object.keys(pullReply).sort()).toEqual(fieldNames('PullReply').sort())
  })

  test('a batch area cut at any byte is refused', () => {
    const area = library('PullReply').decode(envelopes.encodePullReply({ ...pullReply, batches: [pulled[0]!] }))[
      'batches'
    ] as Buffer
    for (let length = 1; length < area.length; length += 1) {
      const bytes = library('PullReply').encode({ batches: area.subarray(0, length) })
      expect(() => envelopes.decodePullReply(bytes)).toThrow(LedgerError)
    }
  })
})

describe('peer frames', () => {
  test('every kind of peer message comes back as it was', () => {
    for (const message of messages) {
      const bytes = peers.encodePeerFrame({ kind: 'message', message, wallMs: 1_790_000_000_123, frames: [] })
      const expected = { kind: 'message', message, wallMs: 1_790_000_000_123, frames: [] }
      expect(peers.decodePeerFrame(bytes, { from: 'n0', to: 'n1' })).toEqual(expected)
      const relayed = library('PeerFrame').encode(library('PeerFrame').decode(bytes))
      expect(peers.decodePeerFrame(relayed, { from: 'n0', to: 'n1' })).toEqual(expected)
    }
  })

  test('all messages together use every field of PeerFrame', () => {
    const used = new Set(['hello', 'frames'])
    for (const message of messages) {
      const decoded = library('PeerFrame').decode(
        peers.encodePeerFrame({ kind: 'message', message, wallMs: 1, frames: [] }),
      )
      for (const [name, value] of Object.entries(decoded)) if (value) used.add(name)
    }
    expect([...used].sort()).toEqual(fieldNames('PeerFrame').sort())
  })

  test('the frames of an append lie one behind the other as the last bytes, and come back as one view', () => {
    const message = messages.find((each) => each.kind === 'append')!
    const frames = [Buffer.alloc(7000, 1), Buffer.from('second')]
    const bytes = peers.encodePeerFrame({ kind: 'message', message, wallMs: 0, frames })
    expect(library('PeerFrame').decode(bytes)['frames']).toEqual(Buffer.concat(frames))
    const decoded = peers.decodePeerFrame(bytes, { from: 'n0', to: 'n1' })
    expect(decoded).toEqual({ kind: 'message', message, wallMs: 0, frames: [Buffer.concat(frames)] })
  })

  test('hello and its reply agree with the library in every field', () => {
    const bytes = peers.encodePeerFrame({ kind: 'hello', hello })
    expect(library('PeerFrame').decode(bytes)['hello']).toEqual(hello)
    expect(peers.decodePeerFrame(library('PeerFrame').encode({ hello }), { from: '', to: '' })).toEqual({
      kind: 'hello',
      hello,
    })
    expect(Object.keys(hello).sort()).toEqual(fieldNames('Hello').sort())
    for (const reply of [
      { status, protocol: 1, build: 'b', featureLevel: 2 },
      { status: null, protocol: 0, build: '', featureLevel: 0 },
    ]) {
      expect(library('HelloReply').decode(peers.encodeHelloReply(reply))).toEqual(reply)
      expect(peers.decodeHelloReply(library('HelloReply').encode(reply))).toEqual(reply)
    }
  })

  test('R1: a refusal or kind that is not known is refused and never read as a grant', () => {
    for (const fields of [{ kind: 'vote_response', refusal: 'bad_mood' }, { kind: 'constructor' }, { kind: '' }]) {
      const bytes = library('PeerFrame').encode(fields)
      expect(() => peers.decodePeerFrame(bytes, { from: 'a', to: 'b' })).toThrow(/unknown/)
    }
  })
})

describe('status', () => {
  test('a status agrees with the library; a fact of zero is kept apart from one that is not known', () => {
    expect(library('Status').decode(encodeStatus(status))).toEqual(status)
    expect(decodeStatus(library('Status').encode(status))).toEqual(status)
    const bare = { code: 0, message: '', hint: '' }
    expect(library('Status').decode(encodeStatus(bare))).toEqual(bare)
    expect(decodeStatus(encodeStatus({ ...bare, term: 0 }))).toEqual({ ...bare, term: 0 })
    expect(Object.keys(status).sort()).toEqual(fieldNames('Status').sort())
  })

  test('an error travels with its code, message and facts', () => {
    const facts = { leader: { node: 'n1', address: 'a' }, term: 3, retryAfterMs: 4, minOffset: 0, maxOffset: 6 }
    const error = fromWireStatus(decodeStatus(encodeStatus(toWireStatus(new LedgerError('NOT_LEADER', 'no', facts)))))
    expect(error).toMatchObject({ code: 'NOT_LEADER', message: 'no', facts })
  })

  test('an error with facts that no field can carry still travels', () => {
    const facts = { retryAfterMs: 0.4, maxOffset: -1, minOffset: Number.NaN }
    expect(toWireStatus(new LedgerError('FLOW_CONTROL', 'x'.repeat(10_000), facts))).toMatchObject({
      code: 215,
      retryAfterMs: 1,
    })
    expect(encodeStatus(toWireStatus(new LedgerError('FLOW_CONTROL', 'x'.repeat(10_000), facts))).length).toBeLessThan(
      3000,
    )
  })

  test('a code of a newer version becomes SYSTEM_ERROR and names the number', () => {
    expect(fromWireStatus({ code: 9999, message: 'm', hint: 'h' })).toMatchObject({ code: 'SYSTEM_ERROR' })
    expect(fromWireStatus({ code: 9999, message: 'm', hint: 'h' }).message).toContain('9999')
  })
})

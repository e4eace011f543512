/**
 * The hot messages of `broker.proto`, read and written by hand: valid protobuf whose last field is the raw batch.
 *
 * Used by the SDK and the broker's handlers. Decoders never trust a length: anything malformed throws a LedgerError
 * INVALID_REQUEST. The batch of a decoded message is a view of the received buffer, not a copy.
 */
import type { WireStatus } from './methods.ts'
import { readStatus, writeStatus } from './status.ts'
import { encodeMessage, type FieldSink, malformed, WireReader } from './wire.ts'

export interface ProduceRequest {
  readonly requestId: number
  readonly timeoutMs: number
  readonly batch: Buffer
}

export interface ProduceReply {
  readonly requestId: number
  /** 0 is success, else a number of the error table with `status` set. */
  readonly code: number
  readonly baseOffset: number
  readonly index: number
  readonly term: number
  readonly storeTime: number
  readonly duplicate: boolean
  readonly status: WireStatus | null
}

export interface PullRequest {
  readonly requestId: number
  readonly cancel: boolean
  readonly topic: string
  readonly topicId: number
  readonly queue: number
  readonly offset: number
  readonly bytesMax: number
  readonly waitMs: number
  readonly consumerGroup: string
  /** The replica must have applied this log index before it answers, 0: any. */
  readonly afterIndex: number
}

/** One stored batch in a PullReply; on the wire a fixed header of `pullEnvelopeBytes` in front of the batch. */
export interface PulledBatch {
  /** Queue offset of the first record of the batch. */
  readonly baseOffset: number
  readonly index: number
  readonly storeTime: number
  /** First record that was asked for; records before it are to be skipped. */
  readonly startRecord: number
  readonly batch: Buffer
}

export interface PullReply {
  readonly requestId: number
  readonly code: number
  readonly status: WireStatus | null
  readonly nextOffset: number
  readonly minOffset: number
  readonly maxOffset: number
  readonly appliedIndex: number
  readonly commitIndex: number
  readonly appliedTime: number
  readonly topicId: number
  readonly suggestedNode: string
  readonly batches: readonly PulledBatch[]
}

/** base offset 8, index 8, store time 8, start record 4, batch length 4; little-endian. */
export const pullEnvelopeBytes = 32

export function encodeProduceRequest(request: ProduceRequest): Buffer {
  const { batch } = request
  return encodeMessage((to) => {
    to.uint(1, request.requestId)
    to.uint(2, request.timeoutMs)
    to.blob(15, batch.length, (target, at) => batch.copy(target, at))
  })
}

export function decodeProduceRequest(bytes: Buffer): ProduceRequest {
  const reader = new WireReader(bytes)
  let requestId = 0
  let timeoutMs = 0
  let batch = noBytes
  while (reader.next()) {
    if (reader.field === 1) requestId = reader.uint()
    else if (reader.field === 2) timeoutMs = reader.uint32()
    else if (reader.field === 15) batch = reader.bytes()
    else reader.skip()
  }
  return { requestId, timeoutMs, batch }
}

export function encodeProduceReplies(replies: readonly ProduceReply[]): Buffer {
  return encodeMessage((to) => {
    for (const reply of replies) to.message(1, (inner) => writeProduceReply(inner, reply))
  })
}

export function decodeProduceReplies(bytes: Buffer): readonly ProduceReply[] {
  const reader = new WireReader(bytes)
  const replies: ProduceReply[] = []
  while (reader.next()) {
    if (reader.field === 1) replies.push(readProduceReply(reader.message()))
    else reader.skip()
  }
  return replies
}

function writeProduceReply(to: FieldSink, reply: ProduceReply): void {
  const { status } = reply
  to.uint(1, reply.requestId)
  to.uint(2, reply.code)
  to.uint(3, reply.baseOffset)
  to.uint(4, reply.index)
  to.uint(5, reply.term)
  to.uint(6, reply.storeTime)
  to.flag(7, reply.duplicate)
  if (status !== null) to.message(8, (inner) => writeStatus(inner, status))
}

function readProduceReply(reader: WireReader): ProduceReply {
  const reply: Mutable<ProduceReply> = {
    requestId: 0,
    code: 0,
    baseOffset: 0,
    index: 0,
    term: 0,
    storeTime: 0,
    duplicate: false,
    status: null,
  }
  while (reader.next()) {
    if (reader.field === 1) reply.requestId = reader.uint()
    else if (reader.field === 2) reply.code = reader.uint32()
    else if (reader.field === 3) reply.baseOffset = reader.uint()
    else if (reader.field === 4) reply.index = reader.uint()
    else if (reader.field === 5) reply.term = reader.uint()
    else if (reader.field === 6) reply.storeTime = reader.uint()
    else if (reader.field === 7) reply.duplicate = reader.flag()
    else if (reader.field === 8) reply.status = readStatus(reader.message())
    else reader.skip()
  }
  return reply
}

export function encodePullRequest(request: PullRequest): Buffer {
  return encodeMessage((to) => {
    to.uint(1, request.requestId)
    to.flag(2, request.cancel)
    to.text(3, request.topic)
    to.uint(4, request.topicId)
    to.uint(5, request.queue)
    to.uint(6, request.offset)
    to.uint(7, request.bytesMax)
    to.uint(8, request.waitMs)
    to.text(9, request.consumerGroup)
    to.uint(10, request.afterIndex)
  })
}

/** Topic id, queue, offset, index and the two limits are as they came: the handler judges them (29), the stream lives. */
export function decodePullRequest(bytes: Buffer): PullRequest {
  const reader = new WireReader(bytes)
  const request: Mutable<PullRequest> = {
    requestId: 0,
    cancel: false,
    topic: '',
    topicId: 0,
    queue: 0,
    offset: 0,
    bytesMax: 0,
    waitMs: 0,
    consumerGroup: '',
    afterIndex: 0,
  }
  while (reader.next()) {
    if (reader.field === 1) request.requestId = reader.uint()
    else if (reader.field === 2) request.cancel = reader.flag()
    else if (reader.field === 3) request.topic = reader.text()
    else if (reader.field === 4) request.topicId = reader.unchecked()
    else if (reader.field === 5) request.queue = reader.unchecked()
    else if (reader.field === 6) request.offset = reader.unchecked()
    else if (reader.field === 7) request.bytesMax = reader.unchecked()
    else if (reader.field === 8) request.waitMs = reader.unchecked()
    else if (reader.field === 9) request.consumerGroup = reader.text()
    else if (reader.field === 10) request.afterIndex = reader.unchecked()
    else reader.skip()
  }
  return request
}

export function encodePullReply(reply: PullReply): Buffer {
  const { status, batches } = reply
  const batchesBytes = batches.reduce((sum, pulled) => sum + pullEnvelopeBytes + pulled.batch.length, 0)
  return encodeMessage((to) => {
    to.uint(1, reply.requestId)
    to.uint(2, reply.code)
    if (status !== null) to.message(3, (inner) => writeStatus(inner, status))
    to.uint(4, reply.nextOffset)
    to.uint(5, reply.minOffset)
    to.uint(6, reply.maxOffset)
    to.uint(7, reply.appliedIndex)
    to.uint(8, reply.commitIndex)
    to.uint(9, reply.appliedTime)
    to.uint(10, reply.topicId)
    to.text(11, reply.suggestedNode)
    to.blob(15, batchesBytes, (target, at) => writePulledBatches(batches, target, at))
  })
}

export function decodePullReply(bytes: Buffer): PullReply {
  const reader = new WireReader(bytes)
  const reply: Mutable<PullReply> = {
    requestId: 0,
    code: 0,
    status: null,
    nextOffset: 0,
    minOffset: 0,
    maxOffset: 0,
    appliedIndex: 0,
    commitIndex: 0,
    appliedTime: 0,
    topicId: 0,
    suggestedNode: '',
    batches: [],
  }
  while (reader.next()) {
    if (reader.field === 1) reply.requestId = reader.uint()
    else if (reader.field === 2) reply.code = reader.uint32()
    else if (reader.field === 3) reply.status = readStatus(reader.message())
    else if (reader.field === 4) reply.nextOffset = reader.uint()
    else if (reader.field === 5) reply.minOffset = reader.uint()
    else if (reader.field === 6) reply.maxOffset = reader.uint()
    else if (reader.field === 7) reply.appliedIndex = reader.uint()
    else if (reader.field === 8) reply.commitIndex = reader.uint()
    else if (reader.field === 9) reply.appliedTime = reader.uint()
    else if (reader.field === 10) reply.topicId = reader.uint()
    else if (reader.field === 11) reply.suggestedNode = reader.text()
    else if (reader.field === 15) reply.batches = readPulledBatches(reader.bytes())
    else reader.skip()
  }
  return reply
}

function writePulledBatches(batches: readonly PulledBatch[], target: Buffer, from: number): void {
  let at = from
  for (const { baseOffset, index, storeTime, startRecord, batch } of batches) {
    writeUint64(target, at, baseOffset)
    writeUint64(target, at + 8, index)
    writeUint64(target, at + 16, storeTime)
    target.writeUInt32LE(startRecord, at + 24)
    target.writeUInt32LE(batch.length, at + 28)
    batch.copy(target, at + pullEnvelopeBytes)
    at += pullEnvelopeBytes + batch.length
  }
}

function readPulledBatches(bytes: Buffer): readonly PulledBatch[] {
  const batches: PulledBatch[] = []
  let at = 0
  while (at < bytes.length) {
    const from = at + pullEnvelopeBytes
    if (from > bytes.length) throw malformed('a pulled batch has no whole envelope')
    const end = from + bytes.readUInt32LE(at + 28)
    if (end > bytes.length) throw malformed('a pulled batch is cut off')
    batches.push({
      baseOffset: readUint64(bytes, at),
      index: readUint64(bytes, at + 8),
      storeTime: readUint64(bytes, at + 16),
      startRecord: bytes.readUInt32LE(at + 24),
      batch: bytes.subarray(from, end),
    })
    at = end
  }
  return batches
}

/** Two halves: several times faster than a BigInt. */
function writeUint64(target: Buffer, at: number, value: number): void {
  target.writeUInt32LE(value % 0x100000000, at)
  target.writeUInt32LE(Math.floor(value / 0x100000000), at + 4)
}

function readUint64(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 0x100000000
  if (value > Number.MAX_SAFE_INTEGER) throw malformed('an integer of a pull envelope exceeds 2^53 - 1')
  return value
}

type Mutable<Shape> = { -readonly [Key in keyof Shape]: Shape[Key] }

const noBytes: Buffer = Buffer.alloc(0)

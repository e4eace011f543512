/**
 * Batches, written: measured first, then one allocation into which every body is copied once. Used by the SDK and by
 * the broker for the messages it makes itself. What it returns is sent, stored and served as it is.
 */
import { crc32, deflateSync } from 'node:zlib'
import {
  assertLegal,
  batchMagic,
  batchVersion,
  checksumFrom,
  extensionCriticalBit,
  extensionHeadBytes,
  extensionIdMax,
  firstOfProducerBit,
  headerAt,
  headerFixedBytes,
  isUint53,
  kindShift,
  producerIdBytes,
  viewOf,
  writeUint53,
} from './layout.ts'
import {
  batchBytesMax,
  bornHostBytesMax,
  extensionsCountMax,
  recordsPerBatchMax,
  topicNameLengthMax,
} from './limits.ts'
import { headBytes, writeHead } from './record-encoder.ts'
import { textBytes } from './text.ts'
import { type BatchHeader, batchKinds, type Codec, codecs, type RecordFields } from './types.ts'

/** RocketMQ's level for compressed messages. */
const zlibLevel = 5

export interface BatchFields extends Omit<BatchHeader, 'version' | 'totalLength' | 'recordCount'> {
  readonly records: readonly RecordFields[]
}

interface Sizes {
  readonly topic: number
  readonly bornHost: number
  readonly extensions: number
  readonly heads: number
  readonly bodies: number
}

/**
 * Encodes once; the result is sent, stored and served unchanged. Throws MESSAGE_ILLEGAL beyond the limits.
 * Bodies stay uncompressed when compressing them gains nothing.
 */
export function encodeBatch(fields: BatchFields): Buffer {
  checkFields(fields)
  const sizes = measure(fields)
  const before = headerFixedBytes + sizes.topic + sizes.bornHost + sizes.extensions + sizes.heads
  const compressed = compressBodies(fields, sizes.bodies)
  const totalLength = before + (compressed?.length ?? sizes.bodies)
  assertLegal(totalLength <= batchBytesMax, `batch of ${totalLength} bytes: at most ${batchBytesMax} are allowed`)

  const batch = Buffer.allocUnsafe(totalLength)
  const view = viewOf(batch)
  writeHeader(batch, view, fields, sizes, compressed ? fields.codec : codecs.none)
  let at = headerFixedBytes
  at += batch.write(fields.topic, at, 'utf8')
  at += batch.write(fields.bornHost, at, 'utf8')
  at = writeExtensions(batch, view, at, fields.extensions)
  for (const record of fields.records) at = writeHead(batch, view, at, record)
  if (compressed) batch.set(compressed, at)
  else writeBodies(batch, at, fields.records)
  view.setUint32(headerAt.checksum, crc32(batch.subarray(checksumFrom)), true)
  return batch
}

/** Bytes the record will take in an uncompressed batch. Throws MESSAGE_ILLEGAL when it breaks a limit. */
export function recordBytes(record: RecordFields): number {
  return headBytes(record) + record.body.length
}

function checkFields(fields: BatchFields): void {
  const { codec, kind, producerId, producerEpoch, baseSequence, baseBornTime, queue, records } = fields
  assertLegal(codec === codecs.none || codec === codecs.zlib, `codec ${codec} is not supported yet`)
  assertLegal(Object.values(batchKinds).includes(kind), `kind ${kind} is unknown`)
  assertLegal(producerId.length === producerIdBytes, `producer id has ${producerId.length} bytes, not 16`)
  assertLegal(producerEpoch >>> 0 === producerEpoch, `producer epoch ${producerEpoch} does not fit 32 bits`)
  assertLegal(queue >>> 0 === queue, `queue ${queue} does not fit 32 bits`)
  assertLegal(isUint53(baseBornTime), `born time ${baseBornTime} is no time`)
  assertLegal(records.length > 0, 'batch has no records')
  assertLegal(
    records.length <= recordsPerBatchMax,
    `batch has ${records.length} records, at most ${recordsPerBatchMax} are allowed`,
  )
  // Not by adding: sums above 2^53 are rounded and would pass.
  assertLegal(
    isUint53(baseSequence) && baseSequence <= Number.MAX_SAFE_INTEGER - (records.length - 1),
    `base sequence ${baseSequence} is no sequence`,
  )
}

function measure(fields: BatchFields): Sizes {
  const topic = textBytes(fields.topic, 'topic')
  assertLegal(topic > 0, 'topic is empty')
  assertLegal(topic <= topicNameLengthMax, `topic of ${topic} bytes: at most ${topicNameLengthMax} are allowed`)
  const bornHost = textBytes(fields.bornHost, 'born host')
  assertLegal(bornHost <= bornHostBytesMax, `born host of ${bornHost} bytes: at most ${bornHostBytesMax} are allowed`)
  let heads = 0
  let bodies = 0
  for (const record of fields.records) {
    heads += headBytes(record)
    bodies += record.body.length
  }
  assertLegal(bodies <= batchBytesMax, `bodies of ${bodies} bytes: at most ${batchBytesMax} are allowed`)
  return { topic, bornHost, extensions: extensionsBytes(fields.extensions), heads, bodies }
}

function extensionsBytes(extensions: BatchFields['extensions']): number {
  assertLegal(
    extensions.length <= extensionsCountMax,
    `${extensions.length} header extensions, at most ${extensionsCountMax} are allowed`,
  )
  let total = 0
  let previousId = -1
  for (const { id, value } of extensions) {
    assertLegal(Number.isInteger(id) && id >= 0 && id <= extensionIdMax, `header extension id ${id} does not fit`)
    assertLegal(id > previousId, 'header extensions are not in ascending order of id')
    previousId = id
    total += extensionHeadBytes + value.length
  }
  assertLegal(total <= 0xffff, `header extensions of ${total} bytes: at most 65535 are allowed`)
  return total
}

/** Null when the bodies are stored as they are. */
function compressBodies(fields: BatchFields, bodiesLength: number): Buffer | null {
  if (fields.codec === codecs.none) return null
  const bodies = Buffer.allocUnsafe(bodiesLength)
  writeBodies(bodies, 0, fields.records)
  const compressed = deflateSync(bodies, { level: zlibLevel })
  return compressed.length < bodiesLength ? compressed : null
}

function writeBodies(target: Buffer, from: number, records: readonly RecordFields[]): void {
  let at = from
  for (const { body } of records) {
    target.set(body, at)
    at += body.length
  }
}

function writeHeader(batch: Buffer, view: DataView, fields: BatchFields, sizes: Sizes, codec: Codec): void {
  view.setUint32(headerAt.magic, batchMagic, true)
  view.setUint32(headerAt.totalLength, batch.length, true)
  view.setUint8(headerAt.version, batchVersion)
  view.setUint8(headerAt.topicLength, sizes.topic)
  const first = fields.firstOfProducer ? firstOfProducerBit : 0
  view.setUint16(headerAt.attributes, codec | (fields.kind << kindShift) | first, true)
  batch.set(fields.producerId, headerAt.producerId)
  view.setUint32(headerAt.producerEpoch, fields.producerEpoch, true)
  view.setUint32(headerAt.queue, fields.queue, true)
  writeUint53(view, headerAt.baseSequence, fields.baseSequence)
  writeUint53(view, headerAt.baseBornTime, fields.baseBornTime)
  view.setUint32(headerAt.recordCount, fields.records.length, true)
  view.setUint32(headerAt.headsLength, sizes.heads, true)
  view.setUint32(headerAt.bodiesLength, sizes.bodies, true)
  view.setUint16(headerAt.extensionsLength, sizes.extensions, true)
  view.setUint8(headerAt.bornHostLength, sizes.bornHost)
  view.setUint8(headerAt.reserved, 0)
}

function writeExtensions(batch: Buffer, view: DataView, from: number, extensions: BatchFields['extensions']): number {
  let at = from
  for (const { id, critical, value } of extensions) {
    view.setUint16(at, critical ? id | extensionCriticalBit : id, true)
    view.setUint16(at + 2, value.length, true)
    batch.set(value, at + extensionHeadBytes)
    at += extensionHeadBytes + value.length
  }
  return at
}

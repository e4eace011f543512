/**
 * Batches, checked and read. The broker calls `checkBatch` on what clients send, `readBatchHeader` on what lies in
 * the log; consumers call `checkBatch`, then `readRecords`.
 *
 * No length is believed before it was compared with what is there; everything malformed throws MESSAGE_ILLEGAL with
 * the name of the field, and nothing else is ever thrown. Never look into bodies here except to unpack them.
 */
import { crc32, inflateSync } from 'node:zlib'
import { LedgerError } from '../common/errors.ts'
import {
  attributesKnown,
  batchMagic,
  batchVersion,
  checksumFrom,
  codecMask,
  extensionCriticalBit,
  extensionHeadBytes,
  extensionIdMax,
  firstOfProducerBit,
  headerAt,
  headerFixedBytes,
  headFixedBytes,
  illegal,
  kindMask,
  kindShift,
  producerIdBytes,
  readUint53,
  tooLong,
  viewOf,
} from './layout.ts'
import { batchBytesMax, extensionsCountMax, recordsPerBatchMax, topicNameLengthMax } from './limits.ts'
import { bodyLengthAt, checkHead, headLengthAt, readHead } from './record-decoder.ts'
import { checkText, readText } from './text.ts'
import { type BatchHeader, type BatchKind, batchKinds, type Codec, codecs, type RecordFields } from './types.ts'

/** The header with the borders of the regions behind it. */
interface Layout {
  readonly header: BatchHeader
  readonly view: DataView
  readonly headsFrom: number
  readonly bodiesFrom: number
  /** Length of all bodies when unpacked. */
  readonly bodiesLength: number
}

/**
 * Header only: checks magic, version, lengths and limits but neither checksum nor records.
 * Producer id and extension values are views of the batch.
 */
export function readBatchHeader(batch: Buffer): BatchHeader {
  return readLayout(batch).header
}

/**
 * Everything a broker must check before it proposes: header, checksum, critical extensions, every record head.
 * Does not unpack bodies and does not judge names: whether the topic may be used is for the caller.
 */
export function checkBatch(batch: Buffer): BatchHeader {
  const layout = readLayout(batch)
  const { header, view, headsFrom, bodiesFrom, bodiesLength } = layout
  const checksum = crc32(batch.subarray(checksumFrom))
  const stored = view.getUint32(headerAt.checksum, true)
  if (checksum !== stored) throw illegal(`checksum is ${hex(checksum)}, the batch says ${hex(stored)}`)
  refuseUnreadable(header)

  let at = headsFrom
  let bodies = 0
  for (let record = 0; record < header.recordCount; record++) {
    const head = checkRecord(batch, view, at, bodiesFrom, record)
    bodies += bodyLengthAt(view, at)
    at += head
  }
  if (at !== bodiesFrom) throw illegal(`record count ${header.recordCount} leaves ${bodiesFrom - at} bytes of heads`)
  if (bodies !== bodiesLength) throw illegal(`bodies have ${bodiesLength} bytes, their heads say ${bodies}`)
  return header
}

/**
 * Records from `start` on. Bodies are views of the batch, or of one unpacked buffer when it is compressed; `start`
 * at or beyond the record count gives none. Checks every head but not the checksum.
 */
export function readRecords(batch: Buffer, start = 0): readonly RecordFields[] {
  const { header, view, headsFrom, bodiesFrom, bodiesLength } = readLayout(batch)
  refuseUnreadable(header)
  const packed = batch.subarray(bodiesFrom)
  const bodies = header.codec === codecs.none ? packed : unpack(packed, bodiesLength)
  const records: RecordFields[] = []
  let at = headsFrom
  let bodyFrom = 0
  for (let record = 0; record < header.recordCount; record++) {
    checkRecord(batch, view, at, bodiesFrom, record)
    const bodyTo = bodyFrom + bodyLengthAt(view, at)
    if (record >= start) records.push(readHead(batch, view, at, bodies.subarray(bodyFrom, bodyTo)))
    bodyFrom = bodyTo
    at += headLengthAt(view, at)
  }
  if (at !== bodiesFrom) throw illegal(`record count ${header.recordCount} leaves ${bodiesFrom - at} bytes of heads`)
  if (bodyFrom !== bodies.length) throw illegal(`bodies have ${bodies.length} bytes, their heads say ${bodyFrom}`)
  return records
}

/** Length of the longest body, unpacked. Of a batch that `checkBatch` accepted. */
export function longestBody(batch: Buffer): number {
  const { header, view, headsFrom } = readLayout(batch)
  let longest = 0
  let at = headsFrom
  for (let record = 0; record < header.recordCount; record++) {
    longest = Math.max(longest, bodyLengthAt(view, at))
    at += headLengthAt(view, at)
  }
  return longest
}

function checkRecord(batch: Buffer, view: DataView, at: number, end: number, record: number): number {
  try {
    return checkHead(batch, view, at, end)
  } catch (error) {
    if (error instanceof LedgerError) throw illegal(`record ${record}: ${error.message}`)
    throw error
  }
}

/** What this build does not know must not be stored by it either: some replica or consumer could not read it. */
function refuseUnreadable(header: BatchHeader): void {
  if (header.codec !== codecs.none && header.codec !== codecs.zlib) {
    throw illegal(`codec ${header.codec} is not supported yet`)
  }
  for (const { id, critical } of header.extensions) {
    if (critical) throw illegal(`header extension ${id} is critical and unknown`)
  }
}

/** Never more than the announced length, however much the packed bytes would give. */
function unpack(packed: Buffer, length: number): Buffer {
  let bodies: Buffer
  try {
    bodies = inflateSync(packed, { maxOutputLength: length })
  } catch (error) {
    throw illegal('bodies cannot be unpacked', error)
  }
  if (bodies.length !== length) throw illegal(`bodies unpack to ${bodies.length} bytes, the header says ${length}`)
  return bodies
}

function readLayout(batch: Buffer): Layout {
  const view = viewOf(batch)
  checkFrame(batch, view)
  const topicLength = view.getUint8(headerAt.topicLength)
  const bornHostLength = view.getUint8(headerAt.bornHostLength)
  const extensionsLength = view.getUint16(headerAt.extensionsLength, true)
  const headsLength = view.getUint32(headerAt.headsLength, true)
  const bodiesLength = view.getUint32(headerAt.bodiesLength, true)
  const recordCount = view.getUint32(headerAt.recordCount, true)
  checkLengths({ topicLength, recordCount, headsLength, bodiesLength })

  const bornHostFrom = headerFixedBytes + topicLength
  const extensionsFrom = bornHostFrom + bornHostLength
  const headsFrom = extensionsFrom + extensionsLength
  const bodiesFrom = headsFrom + headsLength
  if (headsFrom > batch.length) throw illegal('topic, born host or header extensions are cut')
  if (bodiesFrom > batch.length) throw illegal(`heads length ${headsLength} does not fit`)
  checkText(batch, headerFixedBytes, bornHostFrom, 'topic')
  checkText(batch, bornHostFrom, extensionsFrom, 'born host')
  const attributes = checkAttributes(view.getUint16(headerAt.attributes, true))
  // Written out: spreading parts into one object costs more than all of the rest.
  const header: BatchHeader = {
    version: batchVersion,
    codec: (attributes & codecMask) as Codec,
    kind: ((attributes & kindMask) >>> kindShift) as BatchKind,
    firstOfProducer: (attributes & firstOfProducerBit) !== 0,
    totalLength: batch.length,
    producerId: batch.subarray(headerAt.producerId, headerAt.producerId + producerIdBytes),
    producerEpoch: view.getUint32(headerAt.producerEpoch, true),
    baseSequence: readSequence(view, recordCount),
    recordCount,
    baseBornTime: readUint53(view, headerAt.baseBornTime, 'base born time'),
    topic: readText(batch, headerFixedBytes, bornHostFrom),
    queue: view.getUint32(headerAt.queue, true),
    bornHost: readText(batch, bornHostFrom, extensionsFrom),
    extensions: readExtensions(batch, view, extensionsFrom, headsFrom),
  }
  if (header.codec === codecs.none && batch.length - bodiesFrom !== bodiesLength) {
    throw illegal(`bodies length ${bodiesLength} is not that of the batch, ${batch.length - bodiesFrom}`)
  }
  return { header, view, headsFrom, bodiesFrom, bodiesLength }
}

/** What every version has at the same place. */
function checkFrame(batch: Buffer, view: DataView): void {
  if (batch.length < headerFixedBytes) throw illegal(`batch has ${batch.length} bytes, its header is cut`)
  if (batch.length > batchBytesMax) throw tooLong('batch', batch.length, batchBytesMax)
  if (view.getUint32(headerAt.magic, true) !== batchMagic) throw illegal('magic is not that of a batch')
  const totalLength = view.getUint32(headerAt.totalLength, true)
  if (totalLength !== batch.length) throw illegal(`total length is ${totalLength}, ${batch.length} bytes are there`)
  const version = view.getUint8(headerAt.version)
  if (version !== batchVersion) throw illegal(`format version ${version} is unknown`)
  if (view.getUint8(headerAt.reserved) !== 0) throw illegal('reserved byte of the header is not zero')
}

function checkLengths(lengths: {
  readonly topicLength: number
  readonly recordCount: number
  readonly headsLength: number
  readonly bodiesLength: number
}): void {
  const { topicLength, recordCount, headsLength, bodiesLength } = lengths
  if (topicLength === 0) throw illegal('topic is empty')
  if (topicLength > topicNameLengthMax) throw tooLong('topic', topicLength, topicNameLengthMax)
  if (recordCount === 0) throw illegal('record count is zero')
  if (recordCount > recordsPerBatchMax) {
    throw illegal(`record count is ${recordCount}, at most ${recordsPerBatchMax} are allowed`)
  }
  if (headsLength < recordCount * headFixedBytes) {
    throw illegal(`heads length ${headsLength} is too short for record count ${recordCount}`)
  }
  if (bodiesLength > batchBytesMax) {
    throw illegal(`bodies length is ${bodiesLength}, at most ${batchBytesMax} are allowed`)
  }
}

const knownKinds: ReadonlySet<number> = new Set(Object.values(batchKinds))

function checkAttributes(attributes: number): number {
  if ((attributes & ~attributesKnown) !== 0) throw illegal(`attributes ${hex(attributes)} have unknown bits`)
  const codec = attributes & codecMask
  const kind = (attributes & kindMask) >>> kindShift
  if (codec > codecs.zstd) throw illegal(`codec ${codec} is unknown`)
  if (!knownKinds.has(kind)) throw illegal(`kind ${kind} is unknown`)
  return attributes
}

function readSequence(view: DataView, recordCount: number): number {
  const baseSequence = readUint53(view, headerAt.baseSequence, 'base sequence')
  // Not by adding: sums above 2^53 are rounded and would pass.
  if (baseSequence > Number.MAX_SAFE_INTEGER - (recordCount - 1)) throw illegal('last sequence is above 2^53 - 1')
  return baseSequence
}

const noExtensions: BatchHeader['extensions'] = Object.freeze([])

function readExtensions(batch: Buffer, view: DataView, from: number, to: number): BatchHeader['extensions'] {
  if (from === to) return noExtensions
  const extensions: { id: number; critical: boolean; value: Buffer }[] = []
  for (let at = from; at < to; ) {
    if (extensions.length === extensionsCountMax) throw illegal(`more than ${extensionsCountMax} header extensions`)
    if (to - at < extensionHeadBytes) throw illegal('header extension is cut')
    const field = view.getUint16(at, true)
    const valueFrom = at + extensionHeadBytes
    const valueTo = valueFrom + view.getUint16(at + 2, true)
    if (valueTo > to) throw illegal('header extension is cut')
    const id = field & extensionIdMax
    const previous = extensions.at(-1)
    if (previous && previous.id >= id) throw illegal('header extensions are not in ascending order of id')
    const critical = (field & extensionCriticalBit) !== 0
    extensions.push({ id, critical, value: batch.subarray(valueFrom, valueTo) })
    at = valueTo
  }
  return extensions
}

function hex(value: number): string {
  return `0x${value.toString(16)}`
}

/**
 * Record heads, written. Used by `batch-encoder.ts`: `headBytes` for every record first, then `writeHead` into the
 * one buffer of the batch. Limits are checked in the first pass, so the second cannot fail half way.
 */
import {
  headAt,
  headFixedBytes,
  illegal,
  isUint53,
  originFixedBytes,
  propertyHeadBytes,
  tooLong,
  writeUint53,
} from './layout.ts'
import {
  bodyBytesMax,
  keyBytesMax,
  keysCountMax,
  messageGroupBytesMax,
  messageIdBytesMax,
  propertiesBytesMax,
  propertiesCountMax,
  tagBytesMax,
  topicNameLengthMax,
  traceParentBytesMax,
} from './limits.ts'
import { tagHash } from './tag-hash.ts'
import { textBytes, writeText } from './text.ts'
import type { Origin, RecordFields } from './types.ts'

/** Bytes of the record's head. Throws MESSAGE_ILLEGAL, naming the field, when the record breaks a limit. */
export function headBytes(record: RecordFields): number {
  checkNumbers(record)
  return (
    headFixedBytes +
    limited(record.messageId, 'message id', 1, messageIdBytesMax) +
    limited(record.tag, 'tag', 0, tagBytesMax) +
    limited(record.messageGroup, 'message group', 0, messageGroupBytesMax) +
    limited(record.traceParent, 'trace parent', 0, traceParentBytesMax) +
    keysBytes(record.keys) +
    originBytes(record.origin) +
    propertiesBytes(record.properties)
  )
}

function checkNumbers(record: RecordFields): void {
  const { body, bornDelta, deliveryTime, flags, attempt } = record
  if (body.length === 0) throw illegal('body is empty')
  if (body.length > bodyBytesMax) throw tooLong('body', body.length, bodyBytesMax)
  if ((bornDelta | 0) !== bornDelta) throw illegal(`born-time delta ${bornDelta} does not fit 32 bits`)
  if (!isUint53(deliveryTime)) throw illegal(`delivery time ${deliveryTime} is no time`)
  if (flags >>> 0 !== flags) throw illegal(`flags ${flags} do not fit 32 bits`)
  if ((attempt & 0xffff) !== attempt) throw illegal(`attempt ${attempt} does not fit 16 bits`)
}

function limited(text: string, field: string, bytesMin: number, bytesMax: number): number {
  const length = text === '' ? 0 : textBytes(text, field)
  if (length < bytesMin) throw illegal(`${field} is empty`)
  if (length > bytesMax) throw tooLong(field, length, bytesMax)
  return length
}

function keysBytes(keys: readonly string[]): number {
  if (keys.length > keysCountMax) throw illegal(`${keys.length} keys, at most ${keysCountMax} are allowed`)
  let total = 0
  for (const key of keys) total += 1 + limited(key, 'key', 1, keyBytesMax)
  return total
}

function originBytes(origin: Origin | null): number {
  if (!origin) return 0
  if (origin.queue >>> 0 !== origin.queue) throw illegal(`origin queue ${origin.queue} does not fit 32 bits`)
  if (!isUint53(origin.offset)) throw illegal(`origin offset ${origin.offset} is no offset`)
  return originFixedBytes + limited(origin.topic, 'origin topic', 1, topicNameLengthMax)
}

function propertiesBytes(properties: Readonly<Record<string, string>>): number {
  let count = 0
  let total = 0
  for (const name of Object.keys(properties)) {
    count++
    total += propertyHeadBytes
    total += limited(name, 'property name', 1, propertiesBytesMax)
    total += limited(properties[name]!, 'property value', 0, propertiesBytesMax)
  }
  if (count > propertiesCountMax) throw illegal(`${count} properties, at most ${propertiesCountMax} are allowed`)
  if (total > propertiesBytesMax) throw tooLong('properties', total, propertiesBytesMax)
  return total
}

/** Writes the head of a record that `headBytes` has measured; returns where it ends. */
export function writeHead(target: Buffer, view: DataView, from: number, record: RecordFields): number {
  let at = from + headFixedBytes
  const put = (text: string, lengthAt: number): void => {
    const length = Buffer.byteLength(text, 'utf8')
    view.setUint8(from + lengthAt, length)
    at = writeText(target, at, text, length)
  }
  put(record.messageId, headAt.messageIdLength)
  put(record.tag, headAt.tagLength)
  put(record.messageGroup, headAt.messageGroupLength)
  put(record.traceParent, headAt.traceParentLength)
  at = writeKeys(target, at, record.keys)
  const originTopicLength = record.origin ? Buffer.byteLength(record.origin.topic, 'utf8') : 0
  if (record.origin) at = writeOrigin(target, view, at, record.origin, originTopicLength)
  const propertiesFrom = at
  const names = Object.keys(record.properties)
  at = writeProperties(target, view, at, record.properties, names)

  view.setUint32(from + headAt.headLength, at - from, true)
  view.setUint32(from + headAt.bodyLength, record.body.length, true)
  view.setInt32(from + headAt.bornDelta, record.bornDelta, true)
  view.setInt32(from + headAt.tagHash, tagHash(record.tag), true)
  writeUint53(view, from + headAt.deliveryTime, record.deliveryTime)
  view.setUint32(from + headAt.flags, record.flags, true)
  view.setUint16(from + headAt.attempt, record.attempt, true)
  view.setUint8(from + headAt.keysCount, record.keys.length)
  view.setUint8(from + headAt.originTopicLength, originTopicLength)
  view.setUint16(from + headAt.propertiesCount, names.length, true)
  view.setUint16(from + headAt.propertiesLength, at - propertiesFrom, true)
  return at
}

function writeKeys(target: Buffer, from: number, keys: readonly string[]): number {
  let at = from
  for (const key of keys) {
    const length = Buffer.byteLength(key, 'utf8')
    target[at] = length
    at = writeText(target, at + 1, key, length)
  }
  return at
}

function writeOrigin(target: Buffer, view: DataView, at: number, origin: Origin, topicLength: number): number {
  view.setUint32(at, origin.queue, true)
  writeUint53(view, at + 4, origin.offset)
  return writeText(target, at + originFixedBytes, origin.topic, topicLength)
}

/** Names ascend by their bytes: one record has one encoding, and a doubled name is seen at a glance. */
function writeProperties(
  target: Buffer,
  view: DataView,
  from: number,
  properties: Readonly<Record<string, string>>,
  names: string[],
): number {
  let at = from
  if (names.length > 1) sortByBytes(names)
  for (const name of names) {
    const value = properties[name]!
    const nameLength = Buffer.byteLength(name, 'utf8')
    const valueLength = Buffer.byteLength(value, 'utf8')
    view.setUint16(at, nameLength, true)
    view.setUint16(at + 2, valueLength, true)
    at = writeText(target, at + propertyHeadBytes, name, nameLength)
    at = writeText(target, at, value, valueLength)
  }
  return at
}

const surrogate = /[\ud800-\udfff]/

/** UTF-16 units order like UTF-8 bytes except where surrogate pairs meet U+E000 and above. */
function sortByBytes(names: string[]): void {
  if (names.some((name) => surrogate.test(name))) names.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  else names.sort()
}

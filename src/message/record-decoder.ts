/**
 * Record heads, checked and read. Used by `batch-decoder.ts`.
 *
 * `checkHead` believes no length and allocates nothing for a record of ASCII, since a broker runs it over every
 * record it is sent; `readHead` may only be called on a head that it passed. Never read beyond the heads' region.
 */
import { headAt, headFixedBytes, illegal, originFixedBytes, propertyHeadBytes, readUint53, tooLong } from './layout.ts'
import {
  bodyBytesMax,
  keysCountMax,
  messageGroupBytesMax,
  messageIdBytesMax,
  propertiesBytesMax,
  propertiesCountMax,
  topicNameLengthMax,
  traceParentBytesMax,
} from './limits.ts'
import { tagHash } from './tag-hash.ts'
import { checkText, isAscii, readText } from './text.ts'
import type { Origin, RecordFields } from './types.ts'

/** Checks the head at `at`, which must end at or before `end`; returns its length. Throws MESSAGE_ILLEGAL. */
export function checkHead(bytes: Buffer, view: DataView, at: number, end: number): number {
  if (end - at < headFixedBytes) throw illegal('head is cut')
  const headLength = view.getUint32(at + headAt.headLength, true)
  if (headLength < headFixedBytes || headLength > end - at) throw illegal(`head length ${headLength} does not fit`)
  const bodyLength = view.getUint32(at + headAt.bodyLength, true)
  if (bodyLength === 0) throw illegal('body is empty')
  if (bodyLength > bodyBytesMax) throw tooLong('body', bodyLength, bodyBytesMax)
  if (view.getUint32(at + headAt.deliveryTime + 4, true) > 0x1f_ffff) throw illegal('delivery time is above 2^53 - 1')

  const headEnd = at + headLength
  const keysFrom = checkStrings(bytes, view, at, headEnd)
  const originFrom = checkKeys(bytes, view, keysFrom, headEnd, view.getUint8(at + headAt.keysCount))
  const propertiesFrom = checkOrigin(bytes, view, originFrom, headEnd, view.getUint8(at + headAt.originTopicLength))
  const propertiesLength = view.getUint16(at + headAt.propertiesLength, true)
  if (propertiesLength > propertiesBytesMax) throw tooLong('properties', propertiesLength, propertiesBytesMax)
  if (propertiesFrom + propertiesLength !== headEnd) {
    throw illegal(`head length ${headLength} is not that of its parts, ${propertiesFrom + propertiesLength - at}`)
  }
  checkProperties(bytes, view, propertiesFrom, headEnd, view.getUint16(at + headAt.propertiesCount, true))
  return headLength
}

export function bodyLengthAt(view: DataView, at: number): number {
  return view.getUint32(at + headAt.bodyLength, true)
}

export function headLengthAt(view: DataView, at: number): number {
  return view.getUint32(at + headAt.headLength, true)
}

/** Message id, tag, message group and trace parent lie side by side, so one look proves most of them ASCII. */
function checkStrings(bytes: Buffer, view: DataView, at: number, headEnd: number): number {
  const messageIdLength = view.getUint8(at + headAt.messageIdLength)
  const tagLength = view.getUint8(at + headAt.tagLength)
  const messageGroupLength = view.getUint8(at + headAt.messageGroupLength)
  const traceParentLength = view.getUint8(at + headAt.traceParentLength)
  if (messageIdLength === 0) throw illegal('message id is empty')
  if (messageIdLength > messageIdBytesMax) throw tooLong('message id', messageIdLength, messageIdBytesMax)
  if (messageGroupLength > messageGroupBytesMax) {
    throw tooLong('message group', messageGroupLength, messageGroupBytesMax)
  }
  if (traceParentLength > traceParentBytesMax) throw tooLong('trace parent', traceParentLength, traceParentBytesMax)

  const messageIdFrom = at + headFixedBytes
  const tagFrom = messageIdFrom + messageIdLength
  const messageGroupFrom = tagFrom + tagLength
  const traceParentFrom = messageGroupFrom + messageGroupLength
  const end = traceParentFrom + traceParentLength
  if (end > headEnd) throw illegal('message id, tag, message group or trace parent is cut')
  if (!isAscii(view, messageIdFrom, end)) {
    checkText(bytes, messageIdFrom, tagFrom, 'message id')
    checkText(bytes, tagFrom, messageGroupFrom, 'tag')
    checkText(bytes, messageGroupFrom, traceParentFrom, 'message group')
    checkText(bytes, traceParentFrom, end, 'trace parent')
  }
  checkTagHash(bytes, view, at, tagFrom, messageGroupFrom)
  return end
}

/** A wrong hash would hide the message from every consumer that filters by its tag. */
function checkTagHash(bytes: Buffer, view: DataView, at: number, from: number, to: number): void {
  const stored = view.getInt32(at + headAt.tagHash, true)
  let hash = 0
  if (isAscii(view, from, to)) {
    for (let i = from; i < to; i++) hash = (Math.imul(hash, 31) + view.getUint8(i)) | 0
  } else hash = tagHash(readText(bytes, from, to))
  if (stored !== hash) throw illegal(`tag hash ${stored} is not that of the tag, ${hash}`)
}

function checkKeys(bytes: Buffer, view: DataView, from: number, headEnd: number, count: number): number {
  if (count > keysCountMax) throw illegal(`${count} keys, at most ${keysCountMax} are allowed`)
  let at = from
  for (let i = 0; i < count; i++) {
    if (at >= headEnd) throw illegal('key is cut')
    const length = view.getUint8(at)
    if (length === 0) throw illegal('key is empty')
    if (length > headEnd - at - 1) throw illegal('key is cut')
    checkAnyText(bytes, view, at + 1, at + 1 + length, 'key')
    at += 1 + length
  }
  return at
}

function checkOrigin(bytes: Buffer, view: DataView, at: number, headEnd: number, topicLength: number): number {
  if (topicLength === 0) return at
  if (topicLength > topicNameLengthMax) throw tooLong('origin topic', topicLength, topicNameLengthMax)
  const end = at + originFixedBytes + topicLength
  if (end > headEnd) throw illegal('origin is cut')
  readUint53(view, at + 4, 'origin offset')
  checkAnyText(bytes, view, at + originFixedBytes, end, 'origin topic')
  return end
}

function checkProperties(bytes: Buffer, view: DataView, from: number, end: number, count: number): void {
  if (count > propertiesCountMax) throw illegal(`${count} properties, at most ${propertiesCountMax} are allowed`)
  let at = from
  let previousFrom = 0
  let previousTo = 0
  for (let i = 0; i < count; i++) {
    if (end - at < propertyHeadBytes) throw illegal('property is cut')
    const nameFrom = at + propertyHeadBytes
    const valueFrom = nameFrom + view.getUint16(at, true)
    const valueTo = valueFrom + view.getUint16(at + 2, true)
    if (valueTo > end) throw illegal('property is cut')
    if (valueFrom === nameFrom) throw illegal('property name is empty')
    checkAnyText(bytes, view, nameFrom, valueFrom, 'property name')
    checkAnyText(bytes, view, valueFrom, valueTo, 'property value')
    if (i > 0 && bytes.compare(bytes, nameFrom, valueFrom, previousFrom, previousTo) >= 0) {
      throw illegal('property names are not in ascending order or one comes twice')
    }
    previousFrom = nameFrom
    previousTo = valueFrom
    at = valueTo
  }
  if (at !== end) throw illegal(`properties have ${end - at} bytes that belong to none`)
}

function checkAnyText(bytes: Buffer, view: DataView, from: number, to: number, field: string): void {
  if (!isAscii(view, from, to)) checkText(bytes, from, to, field)
}

/** The record whose head `checkHead` has passed. */
export function readHead(bytes: Buffer, view: DataView, from: number, body: Buffer): RecordFields {
  let at = from + headFixedBytes
  const text = (length: number): string => {
    at += length
    return readText(bytes, at - length, at)
  }
  const messageId = text(view.getUint8(from + headAt.messageIdLength))
  const tag = text(view.getUint8(from + headAt.tagLength))
  const messageGroup = text(view.getUint8(from + headAt.messageGroupLength))
  const traceParent = text(view.getUint8(from + headAt.traceParentLength))
  const keys: string[] = []
  for (let left = view.getUint8(from + headAt.keysCount); left > 0; left--) keys.push(text(view.getUint8(at++)))
  const origin = readOrigin(bytes, view, at, view.getUint8(from + headAt.originTopicLength))
  const propertiesFrom = from + headLengthAt(view, from) - view.getUint16(from + headAt.propertiesLength, true)
  return {
    bornDelta: view.getInt32(from + headAt.bornDelta, true),
    messageId,
    tag,
    keys,
    messageGroup,
    deliveryTime: readUint53(view, from + headAt.deliveryTime, 'delivery time'),
    attempt: view.getUint16(from + headAt.attempt, true),
    origin,
    flags: view.getUint32(from + headAt.flags, true),
    traceParent,
    properties: readProperties(bytes, view, propertiesFrom, view.getUint16(from + headAt.propertiesCount, true)),
    body,
  }
}

function readOrigin(bytes: Buffer, view: DataView, at: number, topicLength: number): Origin | null {
  if (topicLength === 0) return null
  const topicFrom = at + originFixedBytes
  return {
    topic: readText(bytes, topicFrom, topicFrom + topicLength),
    queue: view.getUint32(at, true),
    offset: readUint53(view, at + 4, 'origin offset'),
  }
}

/** Without a prototype, so that a property named `__proto__` is a property and nothing else. */
function readProperties(bytes: Buffer, view: DataView, from: number, count: number): Readonly<Record<string, string>> {
  if (count === 0) return noProperties
  const properties: Record<string, string> = Object.create(null)
  let at = from
  for (let i = 0; i < count; i++) {
    const nameFrom = at + propertyHeadBytes
    const valueFrom = nameFrom + view.getUint16(at, true)
    const valueTo = valueFrom + view.getUint16(at + 2, true)
    properties[readText(bytes, nameFrom, valueFrom)] = readText(bytes, valueFrom, valueTo)
    at = valueTo
  }
  return properties
}

const noProperties: Readonly<Record<string, string>> = Object.freeze(Object.create(null))

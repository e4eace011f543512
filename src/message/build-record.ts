/**
 * From the message that a user hands in to the record that is stored. Called by the SDK at `send`, so that a message
 * nobody could store is refused before it waits in a batch. Checks names and limits; never copies a body.
 */
import { LedgerError } from '../common/errors.ts'
import { recordBytes } from './batch.ts'
import { checkTopicName } from './names.ts'
import type { Message, Origin, RecordFields } from './types.ts'

/** What the sender adds to the user's message. */
export interface RecordFacts {
  readonly messageId: string
  /** Milliseconds after the base born time of the batch that the record goes into. */
  readonly bornDelta?: number
  readonly messageGroup?: string
  /** Milliseconds since the epoch, 0: at once. */
  readonly deliveryTime?: number
  readonly attempt?: number
  readonly origin?: Origin | null
  readonly flags?: number
  readonly traceParent?: string
}

export interface BuiltRecord {
  readonly record: RecordFields
  /** Bytes the record takes in an uncompressed batch. */
  readonly bytes: number
}

/** Names whose meaning has a field of its own, or that only brokers may set (RocketMQ MessageConst). */
const reservedNames: ReadonlySet<string> = new Set([
  'KEYS',
  'TAGS',
  'UNIQ_KEY',
  'WAIT',
  'DELAY',
  'TIMER_DELAY_SEC',
  'TIMER_DELAY_MS',
  'TIMER_DELIVER_MS',
  'RETRY_TOPIC',
  'REAL_TOPIC',
  'REAL_QID',
  'TRAN_MSG',
  'PGROUP',
  'MIN_OFFSET',
  'MAX_OFFSET',
  'ORIGIN_MESSAGE_ID',
  'RECONSUME_TIME',
  'MAX_RECONSUME_TIMES',
  'CONSUME_START_TIME',
  'MSG_TYPE',
  'CLUSTER',
  '__SHARDINGKEY',
])

const controlCharacter = /\p{Cc}/u

/**
 * The record with its size. The body is a view of the user's bytes: it must not change until the send is answered.
 * Throws INVALID_PARAMETER (29) for a topic that clients may not use and MESSAGE_ILLEGAL (13), naming the field, for
 * everything else. Types are checked too: not every user has a compiler.
 */
export function buildRecord(message: Message, facts: RecordFacts): BuiltRecord {
  refuseUnless(typeof message === 'object' && message !== null, 'message must be an object')
  checkString(message.topic, 'topic')
  checkTopicName(message.topic)
  const record: RecordFields = {
    bornDelta: facts.bornDelta ?? 0,
    messageId: facts.messageId,
    tag: checkTag(message.tag ?? ''),
    keys: checkKeys(message.keys ?? []),
    messageGroup: checkMessageGroup(facts.messageGroup ?? ''),
    deliveryTime: facts.deliveryTime ?? 0,
    attempt: facts.attempt ?? 0,
    origin: facts.origin ?? null,
    flags: facts.flags ?? 0,
    traceParent: facts.traceParent ?? '',
    properties: checkProperties(message.properties ?? {}),
    body: toBody(message.body),
  }
  return { record, bytes: recordBytes(record) }
}

function toBody(body: Uint8Array | string): Buffer {
  if (typeof body === 'string') return Buffer.from(body, 'utf8')
  if (Buffer.isBuffer(body)) return body
  refuseUnless(body instanceof Uint8Array, 'body must be a Uint8Array or a string')
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength)
}

/** Consumers split their expressions at `||` and trim the parts: such a tag could never be asked for. */
function checkTag(tag: string): string {
  if (tag === '') return tag
  checkString(tag, 'tag')
  refuseUnless(!tag.includes('|'), 'tag must not hold |')
  refuseUnless(tag.trim() === tag, 'tag must not begin or end with white space')
  refuseUnless(!controlCharacter.test(tag), 'tag must not hold control characters')
  return tag
}

function checkKeys(keys: readonly string[]): readonly string[] {
  refuseUnless(Array.isArray(keys), 'keys must be an array')
  for (const key of keys) {
    checkString(key, 'key')
    refuseUnless(key.trim() !== '', 'key is blank')
    refuseUnless(!controlCharacter.test(key), 'key must not hold control characters')
  }
  return keys
}

function checkMessageGroup(group: string): string {
  checkString(group, 'message group')
  refuseUnless(!controlCharacter.test(group), 'message group must not hold control characters')
  return group
}

function checkProperties(properties: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  refuseUnless(typeof properties === 'object' && properties !== null, 'properties must be an object')
  for (const name of Object.keys(properties)) {
    const problem = findPropertyProblem(name, properties[name])
    if (problem) throw new LedgerError('MESSAGE_ILLEGAL', `property ${JSON.stringify(name.slice(0, 80))} ${problem}`)
  }
  return properties
}

function findPropertyProblem(name: string, value: unknown): string | null {
  if (typeof value !== 'string') return 'must be a string'
  if (reservedNames.has(name)) return 'has a reserved name'
  return controlCharacter.test(name) ? 'must not hold control characters in its name' : null
}

function checkString(value: unknown, field: string): void {
  refuseUnless(typeof value === 'string', `${field} must be a string`)
}

function refuseUnless(condition: boolean, message: string): asserts condition {
  if (!condition) throw new LedgerError('MESSAGE_ILLEGAL', message)
}

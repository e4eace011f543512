/**
 * Checks of everything but numbers that users hand in: not every user has a compiler. Called at the doors of the SDK,
 * so that a wrong argument is refused by name with a coded error, never by what breaks on it later.
 */
import { type ErrorCode, LedgerError } from '../common/errors.ts'
import { checkTopicName } from '../message/names.ts'
import { checkArgument } from './options.ts'
import type { MessageQueue, ReadFrom, StartFrom, WriteToken } from './types.ts'

/** The options of a call: an object, with the signal and the total time that most calls take. */
export function checkOptions(options: unknown): void {
  if (!isObject(options)) throw wrong('INVALID_PARAMETER', 'options', options, 'an object')
  const { signal, timeoutMs } = options
  const isSignal = isObject(signal) && typeof signal['aborted'] === 'boolean' && isCallable(signal['addEventListener'])
  if (signal !== undefined && signal !== null && !isSignal)
    throw wrong('INVALID_PARAMETER', 'signal', signal, 'an AbortSignal')
  if (timeoutMs !== undefined && !isTime(timeoutMs))
    throw wrong('INVALID_PARAMETER', 'timeoutMs', timeoutMs, 'a number of milliseconds')
}

/** Settings of something that lives on: an object. */
export function checkSettings(name: string, settings: unknown): void {
  if (!isObject(settings)) throw wrong('CONFIG_INVALID', name, settings, 'an object')
}

/** A wait: from 0 up, also for ever. */
export function checkWait(name: string, ms: unknown): void {
  if (!isTime(ms)) throw wrong('INVALID_PARAMETER', name, ms, 'a number of milliseconds')
}

export function checkFunction(code: ErrorCode, name: string, value: unknown): void {
  if (!isCallable(value)) throw wrong(code, name, value, 'a function')
}

export function checkText(name: string, value: unknown): void {
  if (typeof value !== 'string' || value === '') throw wrong('INVALID_PARAMETER', name, value, 'a text')
}

export function checkList(code: ErrorCode, name: string, value: unknown): void {
  if (!Array.isArray(value)) throw wrong(code, name, value, 'an array')
}

export function checkQueue(queue: MessageQueue): void {
  if (!isObject(queue)) throw wrong('INVALID_PARAMETER', 'queue', queue, 'an object { topic, group, queue }')
  checkTopicName(queue.topic)
  checkText('queue.group', queue.group)
  checkArgument('queue.queue', queue.queue, 0, Number.MAX_SAFE_INTEGER)
}

export function checkStart(code: ErrorCode, from: StartFrom | undefined): void {
  if (from === undefined || from === 'first' || from === 'last') return
  if (isObject(from) && isTime(from['time']) && Number.isFinite(from['time'])) return
  throw wrong(code, 'from', from, "'first', 'last' or { time }")
}

export function checkReadFrom(readFrom: ReadFrom | undefined): void {
  if (readFrom === undefined || readFrom === 'leader' || readFrom === 'follower' || readFrom === 'suggested') return
  if (isObject(readFrom) && typeof readFrom['node'] === 'string') return
  throw wrong('CONFIG_INVALID', 'readFrom', readFrom, "'leader', 'follower', 'suggested' or { node }")
}

/** `PollOptions.after` as a list. */
export function checkAfter(after: WriteToken | readonly WriteToken[] | undefined): readonly WriteToken[] {
  if (after === undefined) return []
  const tokens: readonly unknown[] = Array.isArray(after) ? after : [after]
  for (const token of tokens) {
    const queue = isObject(token) ? token['queue'] : undefined
    if (!isObject(queue) || typeof queue['group'] !== 'string')
      throw wrong('INVALID_PARAMETER', 'after', token, 'a result of send, or an array of them')
    checkArgument('after.index', (token as WriteToken).index, 0, Number.MAX_SAFE_INTEGER)
  }
  return tokens as readonly WriteToken[]
}

const loggerMethods = ['debug', 'info', 'warn', 'error', 'child'] as const

export function checkLogger(logger: unknown): void {
  if (logger === undefined) return
  if (isObject(logger) && loggerMethods.every((method) => isCallable(logger[method]))) return
  throw wrong('CONFIG_INVALID', 'logger', logger, `an object with ${loggerMethods.join(', ')}`)
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null
}

function isCallable(value: unknown): boolean {
  return typeof value === 'function'
}

function isTime(value: unknown): boolean {
  return typeof value === 'number' && value >= 0
}

function wrong(code: ErrorCode, name: string, value: unknown, expected: string): LedgerError {
  return new LedgerError(code, `${name} is ${shownValue(value)}; it must be ${expected}`)
}

/** Never throws, never long: the value may be anything. */
function shownValue(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 80))
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'object' && value !== null) return 'an object'
  return typeof value === 'function' ? 'a function' : String(value)
}

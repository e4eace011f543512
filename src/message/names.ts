/**
 * Which names of topics and consumer groups clients may use. Called by the SDK before it sends and by the broker
 * before it believes. Names never become file names.
 */
import { LedgerError } from '../common/errors.ts'
import { groupNameLengthMax, topicNameLengthMax } from './limits.ts'

const allowed = /^[a-zA-Z0-9_-]+$/
/** Names that are properties of every object: refused so that a careless consumer of our JSON is not hurt. */
const inherited = new Set(['__proto__', 'constructor', 'prototype', 'toString', 'valueOf', 'hasOwnProperty'])
const systemPrefix = 'rmq_sys_'

/** Throws INVALID_PARAMETER (29) unless clients may use this topic name. */
export function checkTopicName(name: string): void {
  checkName(name, 'topic', topicNameLengthMax)
}

/** Throws INVALID_PARAMETER (29) unless clients may use this consumer group name. */
export function checkGroupName(name: string): void {
  checkName(name, 'group', groupNameLengthMax)
}

function checkName(name: string, what: 'topic' | 'group', lengthMax: number): void {
  // Not every user has a compiler.
  if (typeof name !== 'string') throw new LedgerError('INVALID_PARAMETER', `${what} name must be a string`)
  const problem = findProblem(name, lengthMax)
  if (problem)
    throw new LedgerError('INVALID_PARAMETER', `${what} name ${JSON.stringify(name.slice(0, 160))} ${problem}`)
}

function findProblem(name: string, lengthMax: number): string | null {
  if (name.length === 0) return 'is empty'
  if (name.length > lengthMax) return `has ${name.length} characters, at most ${lengthMax} are allowed`
  if (!allowed.test(name)) return 'may only contain a-z, A-Z, 0-9, _ and -'
  if (inherited.has(name)) return 'is reserved'
  if (name.toLowerCase().startsWith(systemPrefix))
    return `starts with ${systemPrefix}, which is reserved for the system`
  return null
}

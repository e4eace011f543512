/**
 * Ready-made selectors for `send(…, { selector, selectorArg })`: RocketMQ's SelectMessageQueueByHash and ByRandom.
 * A selected queue is final: the message waits for it and never goes to another one.
 */
import { systemRandom } from '../common/clock.ts'
import { LedgerError } from '../common/errors.ts'
import type { MessageQueue, QueueSelector } from './types.ts'

/**
 * The same argument goes to the same queue as long as the number of queues stays. The hash is Java's String.hashCode
 * of the argument as a string, so that Java producers agree.
 */
export const hashSelector: QueueSelector = (queues, _message, argument) => {
  const text = String(argument)
  let hash = 0
  for (let index = 0; index < text.length; index++) hash = (Math.imul(hash, 31) + text.charCodeAt(index)) | 0
  return queueAt(queues, Math.abs(hash) % queues.length)
}

export const randomSelector: QueueSelector = (queues) =>
  queueAt(queues, Math.floor(systemRandom.next() * queues.length))

function queueAt(queues: readonly MessageQueue[], index: number): MessageQueue {
  const queue = queues[index]
  if (!queue) throw new LedgerError('NO_ROUTE', 'the topic has no writable queue to select')
  return queue
}

/** What a push consumer is told by its user, checked, with the defaults. Used by its parts. */
import { LedgerError } from '../../common/errors.ts'
import { checkCount } from '../options.ts'
import type { PushConsumerOptions, ReadFrom, StartFrom } from '../types.ts'
import type { ConsumedMessage } from './consumed-batch.ts'
import type { FlowLimits } from './process-queue.ts'
import type { ReaderPorts } from './queue-reader.ts'

export interface ConsumerPorts extends ReaderPorts {
  readonly requestTimeoutMs: number
}

export interface ListenerContext {
  /**
   * Aborted when the queue was given to another member or the consumer closes, and the time to finish is over; and when
   * the listener runs longer than `consumeTimeoutMs`.
   */
  readonly signal: AbortSignal
  /** 1 for the first call with this message, over all its deliveries. */
  readonly attempt: number
}

/** What a listener may return to have the message again: after the delay of its group, or of a delay level, 1 to 18. */
export type Later = 'later' | { readonly later: number }

// biome-ignore lint/suspicious/noConfusingVoidType: listeners that return nothing and such that ask for later are one type
type ListenerResult = Later | undefined | void

/** Resolves: consumed. Throws, or asks for later: the message comes again. */
export type Listener = (message: ConsumedMessage, context: ListenerContext) => Promise<ListenerResult> | ListenerResult

/** Before a queue is tried again whose reader stopped, or whose offset could not be fetched. */
export const troubleRetryMs = 1_000

export interface PushSettings {
  readonly concurrency: number
  readonly attemptsMax: number
  readonly retryDelayMs: number
  readonly retryDelayMsMax: number
  readonly commitIntervalMs: number
  readonly sessionTimeoutMs: number
  readonly drainTimeoutMs: number
  readonly consumeTimeoutMs: number
  readonly retry: 'broker' | 'local'
  readonly ordered: boolean
  readonly suspendMs: number
  readonly lockLeaseMs: number
  readonly limits: FlowLimits
  readonly from: StartFrom
  readonly readFrom: ReadFrom
}

export function readSettings(options: PushConsumerOptions): PushSettings {
  const attemptsMax = options.attemptsMax ?? Number.POSITIVE_INFINITY
  if (attemptsMax !== Number.POSITIVE_INFINITY) checkCount('attemptsMax', attemptsMax, 1, 1_000_000)
  const { ordered = false } = options
  return {
    attemptsMax,
    concurrency: checkCount('concurrency', options.concurrency ?? 20, 1, 10_000),
    retryDelayMs: checkCount('retryDelayMs', options.retryDelayMs ?? 1_000, 1, 86_400_000),
    retryDelayMsMax: checkCount('retryDelayMsMax', options.retryDelayMsMax ?? 60_000, 1, 86_400_000),
    commitIntervalMs: checkCount('commitIntervalMs', options.commitIntervalMs ?? 1_000, 1, 86_400_000),
    sessionTimeoutMs: checkCount('sessionTimeoutMs', options.sessionTimeoutMs ?? 15_000, 1_000, 60_000),
    drainTimeoutMs: checkCount('drainTimeoutMs', options.drainTimeoutMs ?? 10_000, 0, 86_400_000),
    consumeTimeoutMs: checkCount('consumeTimeoutMs', options.consumeTimeoutMs ?? 900_000, 1, 86_400_000),
    retry: checkRetry(options.retry, ordered),
    ordered,
    suspendMs: checkCount('suspendMs', options.suspendMs ?? 1_000, 10, 30_000),
    lockLeaseMs: checkCount('lockLeaseMs', options.lockLeaseMs ?? 60_000, 1_000, 600_000),
    limits: {
      messagesMax: checkCount('messagesPerQueueMax', options.messagesPerQueueMax ?? 1_000, 1, 1_000_000),
      bytesMax: checkCount('bytesPerQueueMax', options.bytesPerQueueMax ?? 100 * 1024 * 1024, 1, 2 ** 40),
      spanMax: checkCount('spanMax', options.spanMax ?? 2_000, 1, 1_000_000),
    },
    from: options.from ?? 'last',
    readFrom: options.readFrom ?? 'leader',
  }
}

/** In order, a message is tried again in its place: giving it back would put it behind others. */
function checkRetry(retry: PushConsumerOptions['retry'], ordered: boolean): PushSettings['retry'] {
  if (typeof ordered !== 'boolean') throw new LedgerError('CONFIG_INVALID', '`ordered` must be true or false')
  if (retry !== undefined && retry !== 'broker' && retry !== 'local')
    throw new LedgerError('CONFIG_INVALID', "`retry` must be 'broker' or 'local'")
  if (ordered && retry === 'broker')
    throw new LedgerError('CONFIG_INVALID', "with `ordered` messages are retried in place: `retry` cannot be 'broker'")
  return ordered ? 'local' : (retry ?? 'broker')
}

/** The words of transactions in the SDK. Re-exported by `mod.ts`; types only. */
import type { MessageQueue, ProducerOptions } from '../types.ts'

/** `unknown`: not decided yet, or not to be found out now. The broker group asks about it later. */
export type TransactionDecision = 'commit' | 'rollback' | 'unknown'

/** Handed to the local transaction, which may keep `transactionId` with what it writes, for `check` to look up. */
export interface OpenTransaction {
  readonly transactionId: string
  readonly messageId: string
  readonly queue: MessageQueue
}

/**
 * The local transaction, run when the half message is stored: what it returns decides. A throw is `unknown`, because it
 * may have come after the local commit.
 */
export type LocalTransaction = (transaction: OpenTransaction) => TransactionDecision | Promise<TransactionDecision>

/** A half message whose transaction nobody ended. */
export interface CheckedMessage extends OpenTransaction {
  readonly topic: string
  readonly body: Buffer
  /** Empty when the message has none. */
  readonly tag: string
  readonly keys: readonly string[]
  readonly properties: Readonly<Record<string, string>>
  /** When it was sent, by its producer's clock; milliseconds since the epoch. */
  readonly bornTime: number
  /** How often was asked about it, this time included. */
  readonly checks: number
}

/** Any producer of the group is asked, also one that was started after the one that sent the message had died. */
export type TransactionCheck = (message: CheckedMessage) => TransactionDecision | Promise<TransactionDecision>

export interface TransactionProducerOptions extends Omit<ProducerOptions, 'group' | 'idempotent'> {
  /** Producer group: every member of it can tell what became of its transactions. */
  readonly group: string
  readonly check: TransactionCheck
  /**
   * Topics about whose transactions this producer can be asked from the start, beside those it sends to. Default: all,
   * on every broker group.
   */
  readonly topics?: readonly string[]
  /** How long a check may take before it counts as `unknown`, milliseconds. Default 10,000. */
  readonly checkTimeoutMs?: number
  /** Checks that run at the same time. Default 64. */
  readonly checksMax?: number
  /** How long the end of a transaction is tried, milliseconds; after that it is left to a check. Default 10,000. */
  readonly endTimeoutMs?: number
}

export interface TransactionResult {
  readonly messageId: string
  readonly transactionId: string
  readonly queue: MessageQueue
  /** What became of the message. `unknown`: a check will decide. */
  readonly state: 'committed' | 'rolled_back' | 'unknown'
  /** What the local transaction threw, or why the broker group could not be told, or said otherwise; else null. */
  readonly error: Error | null
}

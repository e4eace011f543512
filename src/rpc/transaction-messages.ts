/** Messages about transactions, as in `proto/ledgermq/v1/broker.proto`. A part of `methods.ts`, which has the methods. */

export interface EndTransactionRequest {
  readonly producerGroup: string
  readonly transactionId: string
  /** `commit` or `rollback`. */
  readonly resolution: string
  readonly fromCheck: boolean
}

export interface EndTransactionReply {
  /** `committed` or `rolled_back`. */
  readonly outcome: string
}

export interface WatchTransactionsRequest {
  readonly producerGroup: string
  readonly clientId: string
}

export interface OpenTransaction {
  readonly transactionId: string
  /** Which record of the batch. */
  readonly record: number
  readonly checks: number
}

export interface TransactionQuestion {
  readonly topic: string
  readonly queue: number
  readonly transactions: readonly OpenTransaction[]
  readonly batch: Buffer
}

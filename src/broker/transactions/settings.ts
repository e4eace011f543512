/** When producers are asked what became of their transactions. RocketMQ's names and values; read by the check service. */
import { LedgerError } from '../../common/errors.ts'

export interface TransactionSettings {
  /** Age of a half message before its producers are asked for the first time, milliseconds (`transactionTimeOut`). */
  readonly timeOutMs: number
  /** Between two questions about one transaction (`transactionCheckInterval`). */
  readonly checkIntervalMs: number
  /** Questions about one transaction; then it is rolled back (`transactionCheckMax`). */
  readonly checkMax: number
  /** Streams of producers that can be asked. */
  readonly watchersMax: number
}

export const defaultTransactions: TransactionSettings = {
  timeOutMs: 6_000,
  checkIntervalMs: 30_000,
  checkMax: 15,
  watchersMax: 10_000,
}

/** Throws CONFIG_INVALID naming the setting. */
export function checkTransactions(settings: Partial<TransactionSettings>): void {
  for (const [name, value] of Object.entries(settings))
    if (!Number.isSafeInteger(value) || value < 1)
      throw new LedgerError('CONFIG_INVALID', `transactions.${name}: must be a whole number from 1 on, not ${value}`)
}

/**
 * What an operator may say about how long messages are kept. Part of `BrokerOptions`; only the leader's settings
 * count, so give all replicas of a group the same. Defaults are those of RocketMQ's MessageStoreConfig, where it has
 * the setting.
 */
import { LedgerError } from '../../common/errors.ts'

export interface RetentionSettings {
  /** Messages younger than this stay, milliseconds of log time, unless space ends (`fileReservedTime`, 72 h). */
  readonly reservedMs: number
  /** The log is trimmed to this many bytes, in whole segments; null for no such limit. The newest segment stays. */
  readonly logBytesMax: number | null
  /**
   * Share of the leader's disk in use beyond which the oldest go, whatever their age (`diskSpaceCleanForciblyRatio`).
   * When its disk is full they go, too, until it takes writes again. 1: never, it refuses writes instead.
   */
  readonly diskUseMax: number
  /**
   * A follower that is reachable and lags by no more than this is waited for; beyond it, it gets a copy instead.
   * Null: 4 GiB, or a quarter of the disk when that is less.
   */
  readonly followerLagBytesMax: number | null
}

const hourMs = 3_600_000
const gibibyte = 1024 ** 3

export const defaultRetention: RetentionSettings = {
  reservedMs: 72 * hourMs,
  logBytesMax: null,
  diskUseMax: 0.85,
  followerLagBytesMax: null,
}

export function followerLagBytesMax(settings: RetentionSettings, diskBytes: number): number {
  return settings.followerLagBytesMax ?? Math.min(4 * gibibyte, diskBytes / 4)
}

/** Throws CONFIG_INVALID with the key and the reason. */
export function checkRetention(settings: Partial<RetentionSettings>): void {
  const { reservedMs, logBytesMax, diskUseMax, followerLagBytesMax: lagBytesMax } = settings
  if (reservedMs !== undefined && !(reservedMs > 0)) throw invalid('reservedMs', 'must be above 0', reservedMs)
  if (!isBytes(logBytesMax)) throw invalid('logBytesMax', 'must be a whole number above 0, or null', logBytesMax)
  if (!isBytes(lagBytesMax))
    throw invalid('followerLagBytesMax', 'must be a whole number above 0, or null', lagBytesMax)
  if (diskUseMax !== undefined && !(diskUseMax > 0 && diskUseMax <= 1)) {
    throw invalid('diskUseMax', 'must be above 0 and at most 1', diskUseMax)
  }
}

function isBytes(value: number | null | undefined): boolean {
  return value === undefined || value === null || (Number.isSafeInteger(value) && value > 0)
}

function invalid(key: string, rule: string, value: unknown): LedgerError {
  return new LedgerError('CONFIG_INVALID', `retention.${key}: ${rule}, is ${value}`)
}

/**
 * Which replicas failed a reader, how, and until when they are passed over. Kept by each queue reader, which decides by
 * it whom to ask next; asks nobody by itself.
 *
 * A replica that refused may serve as soon as its group gets a leader. One that kept silent is not cured by that: were
 * it taken back at once, a reader in a group whose leaders change often would wait for two silent ones in turns, each
 * forgotten while it waits for the other.
 */
import type { ErrorCode } from '../../common/errors.ts'

/** How long a failed replica is passed over, growing with each failure in a row. */
export const passOverMs = { min: 500, max: 15_000 } as const

/** Nothing came from it, or not over this connection. All other errors are answers. */
const silentCodes: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['UNAVAILABLE', 'DEADLINE_EXCEEDED'])

interface Failure {
  /** Failures in a row. */
  readonly count: number
  readonly untilMs: number
  readonly silent: boolean
}

export class ReplicaFailures {
  readonly #byAddress = new Map<string, Failure>()

  /** Times are of the monotonic clock. */
  note(address: string, code: ErrorCode, nowMs: number): void {
    const count = (this.#byAddress.get(address)?.count ?? 0) + 1
    const untilMs = nowMs + Math.min(passOverMs.max, passOverMs.min * 2 ** Math.min(count, 10))
    this.#byAddress.set(address, { count, untilMs, silent: silentCodes.has(code) })
  }

  usable(address: string, nowMs: number): boolean {
    return (this.#byAddress.get(address)?.untilMs ?? 0) <= nowMs
  }

  /** It failed not long ago, whether or not it is usable again: ask others first. */
  doubtful(address: string, nowMs: number): boolean {
    return (this.#byAddress.get(address)?.untilMs ?? -passOverMs.max) + passOverMs.max > nowMs
  }

  /** It answered as it should. */
  forget(address: string): void {
    this.#byAddress.delete(address)
  }

  forgetAll(): void {
    this.#byAddress.clear()
  }

  /** Of a group that got a leader; null: that lost it. */
  onLeaderChanged(leader: string | null): void {
    for (const [address, { silent }] of this.#byAddress)
      if (!silent || address === leader) this.#byAddress.delete(address)
  }
}

/**
 * Whether this replica has followed no leader for so long that its group may have gone on without it. The Pull stream
 * asks before it lets a reader wait here; registered by `register.ts`.
 *
 * It never judges a single election: those are over long before.
 */
import type { Cancel, Clock } from '../../common/clock.ts'
import type { ReplicaApi } from '../contract.ts'

/** Several elections, the slow ones too, fit in here. */
export const leaderAbsenceMs = 2000

export interface LeaderAbsencePorts {
  readonly replica: Pick<ReplicaApi, 'leader' | 'onRoleChanged'>
  readonly clock: Clock
  /** The absence has become a long one: who waits here looks again. */
  readonly onLong: () => void
}

export class LeaderAbsence {
  readonly #ports: LeaderAbsencePorts
  readonly #unsubscribe: () => void
  #isLong = false
  #cancelTimer: Cancel | null = null

  constructor(ports: LeaderAbsencePorts) {
    this.#ports = ports
    this.#unsubscribe = ports.replica.onRoleChanged(() => this.#look())
    this.#look()
  }

  get isLong(): boolean {
    return this.#isLong
  }

  close(): void {
    this.#unsubscribe()
    this.#cancelTimer?.()
    this.#cancelTimer = null
  }

  #look(): void {
    if (this.#ports.replica.leader()) {
      this.#cancelTimer?.()
      this.#cancelTimer = null
      this.#isLong = false
      return
    }
    this.#cancelTimer ??= this.#ports.clock.after(
      leaderAbsenceMs,
      () => {
        this.#isLong = true
        this.#ports.onLong()
      },
      { background: true },
    )
  }
}

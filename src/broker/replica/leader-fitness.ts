/**
 * Whether this replica is well enough to lead. Owned by the replica; told by whoever finds something wrong (a full
 * disk, a slow one, a busy process), and again when it is over.
 *
 * A replica that is not well lets others stand for election first. As a leader it hands over to a voter that takes it,
 * the one with most of the log first; one that turns out to be unwell, too, does not answer, and the next one is asked.
 * But a bad leader is better than none: when all were asked in vain it leads on for a while, and when nobody else stands
 * the core does so here (`raft/handicap.ts`). Nobody else could make space on a group of full disks.
 */
import { defaultRaftConfig, type Health, type Input, type RaftConfig, type StepResult } from '../../../raft/index.ts'
import type { Cancel, Clock } from '../../common/clock.ts'
import type { Distress } from './health/health-watch.ts'

/**
 * `no_state`: it could not serve or propose anything, so it does not stand even when nobody leads. `slow_disk`, `busy`:
 * it can do all that a leader must, only slowly.
 */
export type Unfitness = 'disk_full' | 'no_state' | Distress

export interface LeaderFitnessPorts {
  readonly clock: Clock
  /** Time for one voter to take over before the next one is asked. */
  readonly patienceMs: number
  step(input: Input): StepResult
  isLeader(): boolean
  /** Voters that are reachable and not known to be unfit, those with most of the log first. */
  successors(reasons: ReadonlySet<Unfitness>): readonly string[]
}

/** Time after all voters were asked in vain, in patiences. */
const pauseFactor = 15

/**
 * A slow leader still leads, and a handover costs producers a moment: a node hands over for distress alone at most
 * this often. Where load makes every leader slow, leadership then rests most of the time instead of going in circles.
 */
const distressPauseMs = 60_000

/** Twice the longest election timeout. */
export function patienceOf(raft: Partial<Omit<RaftConfig, 'id'>> | undefined): number {
  return 2 * (raft?.electionTimeoutMaxMs ?? defaultRaftConfig.electionTimeoutMaxMs)
}

export class LeaderFitness {
  readonly #ports: LeaderFitnessPorts
  readonly #unfit = new Set<Unfitness>()
  readonly #asked = new Set<string>()
  /** When voters were last asked one after the other. */
  #askedAtMs = Number.NEGATIVE_INFINITY
  #told: Health = 'well'
  #cancel: Cancel | null = null

  constructor(ports: LeaderFitnessPorts) {
    this.#ports = ports
  }

  get isFit(): boolean {
    return this.#unfit.size === 0
  }

  set(what: Unfitness, isUnfit: boolean): void {
    if (isUnfit) this.#unfit.add(what)
    else this.#unfit.delete(what)
    this.stop()
    this.#tellHealth()
    this.#look()
  }

  /** Role or leader changed. */
  roleChanged(): void {
    if (this.isFit || !this.#ports.isLeader()) return
    this.stop()
    // Not at once: were all unfit, leadership would never rest.
    this.#lookIn(this.#ports.patienceMs)
  }

  stop(): void {
    this.#cancel?.()
    this.#cancel = null
    this.#asked.clear()
  }

  #look(): void {
    this.#cancel = null
    if (!this.isFit && this.#ports.isLeader()) this.#handOver()
  }

  #handOver(): void {
    const { patienceMs, successors, step, clock } = this.#ports
    const restMs = this.#restMs()
    if (restMs > 0) {
      this.#lookIn(restMs)
      return
    }
    const next = successors(this.#unfit).find((node) => !this.#asked.has(node))
    if (next === undefined) {
      // Nobody was there to be asked: looking again costs nothing, and the first one that can lead is better.
      this.#lookIn(this.#asked.size === 0 ? patienceMs : patienceMs * pauseFactor)
      this.#asked.clear()
      return
    }
    if (this.#asked.size === 0) this.#askedAtMs = clock.monotonicMs()
    this.#asked.add(next)
    step({ kind: 'transfer', to: next })
    this.#lookIn(patienceMs)
  }

  /** Time until voters may be asked from the beginning again. */
  #restMs(): number {
    const isDistress = !this.#unfit.has('disk_full') && !this.#unfit.has('no_state')
    if (!isDistress || this.#asked.size > 0) return 0
    return this.#askedAtMs + distressPauseMs - this.#ports.clock.monotonicMs()
  }

  #lookIn(ms: number): void {
    this.#cancel = this.#ports.clock.after(ms, () => this.#look(), { background: true })
  }

  #tellHealth(): void {
    const health = this.isFit ? 'well' : this.#unfit.has('no_state') ? 'unable' : 'reluctant'
    if (this.#told === health) return
    this.#told = health
    this.#ports.step({ kind: 'health', health })
  }
}

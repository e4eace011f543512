/**
 * Reduces a failing scenario: whole kinds of faults go, then single ones (delta debugging, Zeller 2002), then what the
 * users do. A smaller scenario counts when it fails in the same way.
 *
 * A fault less moves all that comes after it, and a bug that needs an unlucky moment may hide. So each candidate is
 * tried with several seeds for what is left to chance; the one that fails goes into the scenario.
 */
import type { SimConfiguration } from './configuration.ts'
import type { FaultEvent } from './fault.ts'
import { failureClass, type Scenario } from './scenario.ts'
import type { Story } from './simulation.ts'

export interface ShrinkOptions {
  /** What fails, or null. */
  run(scenario: Scenario): Promise<string | null>
  /** Seeds tried for each candidate. */
  readonly variants: number
  isOver(): boolean
  note(text: string): void
}

export async function shrink(failing: Scenario, options: ShrinkOptions): Promise<Scenario> {
  const shrinker = new Shrinker(failing, options)
  await shrinker.dropKinds()
  await shrinker.dropFaults()
  await shrinker.simplify()
  await shrinker.dropFaults()
  return shrinker.best
}

class Shrinker {
  best: Scenario
  readonly #wanted: string
  readonly #options: ShrinkOptions
  readonly #firstSeed: string

  constructor(failing: Scenario, options: ShrinkOptions) {
    this.best = failing
    this.#wanted = failureClass(failing.found)
    this.#options = options
    this.#firstSeed = failing.seed
  }

  async dropKinds(): Promise<void> {
    for (const kind of new Set(this.#faults.map((fault) => fault.kind))) {
      await this.#tryFaults(this.#faults.filter((fault) => fault.kind !== kind))
    }
    if (this.best.story.leaderDiesAtEnd) await this.#try({ leaderDiesAtEnd: false })
  }

  async dropFaults(): Promise<void> {
    let parts = 2
    while (this.#faults.length > 0 && parts <= this.#faults.length * 2) {
      const size = Math.max(1, Math.ceil(this.#faults.length / parts))
      let dropped = false
      for (let from = 0; from < this.#faults.length; ) {
        const rest = [...this.#faults.slice(0, from), ...this.#faults.slice(from + size)]
        if (await this.#tryFaults(rest)) dropped = true
        else from += size
      }
      if (size === 1 && !dropped) return
      parts = dropped ? 2 : parts * 2
    }
  }

  /** Fewer replicas and users, less to send, nothing that is not needed. */
  async simplify(): Promise<void> {
    const changes: readonly ((now: SimConfiguration) => Partial<SimConfiguration>)[] = [
      () => ({ brokenForEver: null }),
      () => ({ finalPowerLoss: false }),
      () => ({ faultsAtBirth: false }),
      () => ({ groupMembers: 0 }),
      () => ({ queues: 1 }),
      () => ({ batchShare: 0 }),
      () => ({ bodyBytesMax: 40 }),
      ({ limits }) => ({ limits: scrubOf(limits) }),
      ({ network }) => ({ network: { ...network, slowShare: 0 } }),
      ({ disk }) => ({ disk: { ...disk, lateShare: 0 } }),
    ]
    for (const change of changes) await this.#configure(change)
    while (await this.#configure(({ messagesMax }) => ({ messagesMax: Math.floor(messagesMax / 2) })));
    while (await this.#configure(({ senders }) => ({ senders: Math.floor(senders / 2) })));
    const last = this.#faults.at(-1)
    if (last) await this.#configure(() => ({ safetyMs: Math.ceil(last.atMs) + 500 }))
  }

  get #faults(): readonly FaultEvent[] {
    return this.best.story.faults
  }

  async #configure(change: (now: SimConfiguration) => Partial<SimConfiguration>): Promise<boolean> {
    const now = this.best.story.configuration
    const configuration = { ...now, ...change(now) }
    if (configuration.senders < 1 || JSON.stringify(configuration) === JSON.stringify(now)) return false
    return this.#try({ configuration })
  }

  #tryFaults(faults: readonly FaultEvent[]): Promise<boolean> {
    return this.#try({ faults })
  }

  /** True when the change still fails in the same way; then it is the best so far. */
  async #try(change: Partial<Story>): Promise<boolean> {
    const story = { ...this.best.story, ...change }
    for (const seed of this.#seeds()) {
      if (this.#options.isOver()) return false
      const found = await this.#options.run({ ...this.best, seed, story })
      if (found === null || failureClass(found) !== this.#wanted) continue
      this.best = { ...this.best, seed, story, found }
      const { messagesMax, senders } = story.configuration
      this.#options.note(`${story.faults.length} faults, ${senders} senders, at most ${messagesMax} messages: ${found}`)
      return true
    }
    return false
  }

  #seeds(): ReadonlySet<string> {
    const others = Array.from({ length: this.#options.variants }, (_, at) => `${this.#firstSeed}.${at}`)
    return new Set([this.best.seed, ...others])
  }
}

/** What is left of the limits. Without a scrub, rot that nobody reads is found by nobody, which fails in the same way. */
function scrubOf({ scrubPassMs, scrubBytesPerSecond }: SimConfiguration['limits']): SimConfiguration['limits'] {
  return {
    ...(scrubPassMs === undefined ? {} : { scrubPassMs }),
    ...(scrubBytesPerSecond === undefined ? {} : { scrubBytesPerSecond }),
  }
}

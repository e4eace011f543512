/**
 * Receivers that are being served: what happens while one looks for messages is not missed when it waits afterwards.
 * Woken by apply, by settled messages, by turns that become free, and by their own timer.
 */
import type { Cancel, Clock } from '../../common/clock.ts'

export interface Waiter {
  readonly group: string
  readonly topicId: number
}

interface Entry extends Waiter {
  /** Something happened since it looked last. */
  woken: boolean
  /** Set while it waits. */
  resume: (() => void) | null
}

export class ReceiveWaits {
  readonly #clock: Clock
  readonly #max: number
  readonly #entries = new Set<Entry>()
  /** A message wakes its receivers without asking all others. */
  readonly #byTopic = new Map<number, Set<Entry>>()
  readonly #byGroup = new Map<string, Set<Entry>>()

  constructor(clock: Clock, max: number) {
    this.#clock = clock
    this.#max = max
  }

  get count(): number {
    return this.#entries.size
  }

  /** Null when as many are served as may be. Whoever enters leaves. */
  enter(waiter: Waiter): Waiter | null {
    if (this.#entries.size >= this.#max) return null
    const entry: Entry = { ...waiter, woken: false, resume: null }
    this.#entries.add(entry)
    addTo(this.#byTopic, entry.topicId, entry)
    addTo(this.#byGroup, entry.group, entry)
    return entry
  }

  leave(waiter: Waiter): void {
    const entry = waiter as Entry
    this.#entries.delete(entry)
    removeFrom(this.#byTopic, entry.topicId, entry)
    removeFrom(this.#byGroup, entry.group, entry)
  }

  /** To be called before it looks. */
  looks(waiter: Waiter): void {
    ;(waiter as Entry).woken = false
  }

  /** Resolves when something happened since `looks`, after `ms`, or when the signal aborts. */
  async wait(waiter: Waiter, ms: number, signal: AbortSignal): Promise<void> {
    const entry = waiter as Entry
    if (entry.woken || signal.aborted) return
    let cancel: Cancel = () => {}
    let onAbort = (): void => {}
    await new Promise<void>((resolve) => {
      entry.resume = resolve
      onAbort = resolve
      cancel = this.#clock.after(ms, resolve, { background: true })
      signal.addEventListener('abort', onAbort, { once: true })
    })
    entry.resume = null
    cancel()
    signal.removeEventListener('abort', onAbort)
  }

  wakeTopic(topicId: number): void {
    this.#wake(this.#byTopic.get(topicId))
  }

  wakeGroup(group: string): void {
    this.#wake(this.#byGroup.get(group))
  }

  wakeAll(): void {
    this.#wake(this.#entries)
  }

  #wake(entries: ReadonlySet<Entry> | undefined): void {
    for (const entry of entries ?? []) {
      if (entry.woken) continue
      entry.woken = true
      // A run of applied entries wakes it once, in the order in which they came.
      const { resume } = entry
      if (resume) this.#clock.defer(resume)
    }
  }
}

function addTo<Key>(sets: Map<Key, Set<Entry>>, key: Key, entry: Entry): void {
  const known = sets.get(key)
  if (known) known.add(entry)
  else sets.set(key, new Set([entry]))
}

function removeFrom<Key>(sets: Map<Key, Set<Entry>>, key: Key, entry: Entry): void {
  const known = sets.get(key)
  known?.delete(entry)
  if (known?.size === 0) sets.delete(key)
}

/**
 * Virtual time: a heap of events ordered by time and then by the order in which they were made. One event runs at a
 * time, and everything it set going (promises) settles before the next: with one seed, one history.
 *
 * Promises settle without a turn of the real event loop: `nextTick` called from a microtask runs only when no
 * microtask is left. That makes an event cost a microsecond instead of ten.
 */

interface Event {
  readonly atMs: number
  readonly order: number
  action: (() => void) | null
}

const settled = Promise.resolve()
/** Now and then the real loop gets its turn, so that signals, reporters and rejected promises are heard. */
const eventsPerTurn = 4096

export class Scheduler {
  readonly #heap: Event[] = []
  /** What is due at once, in order: most events, and far cheaper than in the heap. */
  #due: Event[] = []
  #dueAt = 0
  #nowMs = 0
  #order = 0
  #executed = 0

  get nowMs(): number {
    return this.#nowMs
  }

  /** Events run so far: what a failing history is measured in. */
  get executed(): number {
    return this.#executed
  }

  /** Returns the cancellation. */
  after(delayMs: number, action: () => void): () => void {
    return this.at(this.#nowMs + Math.max(0, delayMs), action)
  }

  /** At a time that is given exactly; now if it has passed. Returns the cancellation. */
  at(atMs: number, action: () => void): () => void {
    const event: Event = { atMs: Math.max(this.#nowMs, atMs), order: this.#order++, action }
    if (event.atMs === this.#nowMs) this.#due.push(event)
    else this.#push(event)
    return () => {
      event.action = null
    }
  }

  /** Runs until virtual time `untilMs`, or until `isDone` holds after an event. Resolves to whether it did. */
  run(untilMs: number, isDone: () => boolean = () => false): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const step = (): void => {
        try {
          if (isDone()) resolve(true)
          else if (this.#runNext(untilMs)) settle()
          else resolve(isDone())
        } catch (error) {
          reject(error)
        }
      }
      const settle = (): void => {
        if (this.#executed % eventsPerTurn === 0) setImmediate(step)
        else void settled.then(afterAll)
      }
      const afterAll = (): void => process.nextTick(step)
      settle()
    })
  }

  /** False when nothing is left to run up to `untilMs`. */
  #runNext(untilMs: number): boolean {
    for (;;) {
      const next = this.#next()
      if (next === undefined || next.atMs > untilMs) {
        this.#nowMs = Math.max(this.#nowMs, untilMs)
        return false
      }
      this.#take(next)
      if (next.action === null) continue
      this.#nowMs = next.atMs
      this.#executed++
      next.action()
      return true
    }
  }

  #next(): Event | undefined {
    const due = this.#due[this.#dueAt]
    const first = this.#heap[0]
    return due === undefined || (first !== undefined && isBefore(first, due)) ? first : due
  }

  #take(next: Event): void {
    if (next !== this.#due[this.#dueAt]) {
      this.#pop()
      return
    }
    if (++this.#dueAt < this.#due.length) return
    this.#due = []
    this.#dueAt = 0
  }

  #push(event: Event): void {
    const heap = this.#heap
    let index = heap.push(event) - 1
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!isBefore(event, heap[parent] as Event)) break
      heap[index] = heap[parent] as Event
      index = parent
    }
    heap[index] = event
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop() as Event
    if (heap.length === 0) return
    let index = 0
    for (;;) {
      let child = index * 2 + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Event, heap[child] as Event)) child++
      if (!isBefore(heap[child] as Event, last)) break
      heap[index] = heap[child] as Event
      index = child
    }
    heap[index] = last
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

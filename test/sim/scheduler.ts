/**
 * Virtual time: a heap of events ordered by time and then by the order in which they were made. One event runs at a
 * time, and everything it set going (promises) settles before the next: with one seed, one history.
 */
import { setImmediate as turnOfTheLoop } from 'node:timers/promises'

interface Event {
  readonly atMs: number
  readonly order: number
  action: (() => void) | null
}

export class Scheduler {
  readonly #heap: Event[] = []
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
    const event: Event = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order++, action }
    this.#push(event)
    return () => {
      event.action = null
    }
  }

  /** Runs until virtual time `untilMs`, or until `isDone` holds after an event. Returns whether it did. */
  async run(untilMs: number, isDone: () => boolean = () => false): Promise<boolean> {
    await turnOfTheLoop()
    while (!isDone()) {
      const next = this.#heap[0]
      if (next === undefined || next.atMs > untilMs) {
        this.#nowMs = Math.max(this.#nowMs, untilMs)
        return isDone()
      }
      this.#pop()
      if (next.action === null) continue
      this.#nowMs = next.atMs
      this.#executed++
      next.action()
      await turnOfTheLoop()
    }
    return true
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

/**
 * Which queues are served next: the due timers of a few pages, by queue. Pure; used by the timer service.
 *
 * A queue gets the timers that were there as of the first page only. Those that came while the pages were read may
 * have others before them, on a page that was read already.
 */
import type { TimerKey } from '../../message/extensions.ts'
import type { TimerPage, TimerRow } from '../apply/timer-rows.ts'
import type { TimerTarget } from '../apply/timers.ts'

export interface DueQueue extends TimerTarget {
  /** The first due timers of the queue; none is left out that no earlier delivery has left. */
  readonly rows: TimerRow[]
}

export class DueQueues {
  readonly #rowsMax: number
  readonly #queues = new Map<string, DueQueue>()
  #asOf: number | null = null
  #last: TimerKey | null = null

  /** `rowsMax`: of one queue. */
  constructor(rowsMax: number) {
    this.#rowsMax = rowsMax
  }

  /** All timers up to this entry were looked at. */
  get asOf(): number {
    return this.#asOf ?? 0
  }

  /** Where the next page begins. */
  get last(): TimerKey | null {
    return this.#last
  }

  /** In the order of their first timer. */
  get queues(): readonly DueQueue[] {
    return [...this.#queues.values()]
  }

  /** `isServed`: false for what has to wait: a queue, or a timer that earlier deliveries have left. */
  add(page: TimerPage, isServed: (row: TimerRow) => boolean): void {
    this.#asOf ??= page.asOf
    this.#last = page.rows.at(-1)?.key ?? this.#last
    for (const row of page.rows) {
      if (row.key.index > this.#asOf || !isServed(row)) continue
      const due = this.#ensure(row.place)
      if (due.rows.length < this.#rowsMax) due.rows.push(row)
    }
  }

  #ensure({ topicId, queue }: TimerTarget): DueQueue {
    const name = queueName({ topicId, queue })
    const due = this.#queues.get(name) ?? { topicId, queue, rows: [] }
    this.#queues.set(name, due)
    return due
  }
}

export function queueName({ topicId, queue }: TimerTarget): string {
  return `${topicId}/${queue}`
}
